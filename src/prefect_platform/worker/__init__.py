"""What runs in the worker's pod and in the pod of `helm test`."""
