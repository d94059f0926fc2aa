"""What Prefect is told: the work pool, where results live, and the deployments."""
