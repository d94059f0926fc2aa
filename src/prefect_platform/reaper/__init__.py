"""What keeps flow runs and their Jobs in step; it runs in a pod of the chart prefect-worker."""
