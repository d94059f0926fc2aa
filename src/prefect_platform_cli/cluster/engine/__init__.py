"""The Docker engine that holds the cluster's nodes."""
