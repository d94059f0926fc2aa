"""Enforces Kubernetes NetworkPolicies on one node, by nftables; see README.md."""
