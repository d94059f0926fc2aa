"""Enforces Kubernetes NetworkPolicies on one node, by nftables; see docs/adr/0010."""
