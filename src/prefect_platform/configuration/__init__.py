"""Apply platform.yaml and prefect.yaml to Prefect: work pools, blocks, deployments and others."""
