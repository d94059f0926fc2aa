"""Enforces Kubernetes NetworkPolicies on one node with nftables; see README.md."""
