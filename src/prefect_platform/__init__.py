"""Run Prefect on Kubernetes: cluster, charts, images, flows and their operation."""
