"""The Kubernetes cluster that the platform runs on, and the Docker engine beneath it."""
