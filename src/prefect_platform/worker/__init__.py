"""Programs that run in the worker's pod and in the pod of `helm test`."""
