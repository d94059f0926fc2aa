"""Clients of the Kubernetes API: kubectl, port-forwards, manifests and workloads."""
