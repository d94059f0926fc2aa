"""Argo CD on the local cluster, and clusters in which Argo CD deploys the platform."""
