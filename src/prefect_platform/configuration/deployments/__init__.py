"""Deployments in prefect.yaml, and their schedules."""
