"""The cluster as a client sees it: kubectl, port-forwards, manifests and workloads."""
