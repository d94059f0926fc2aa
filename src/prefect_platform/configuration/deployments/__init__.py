"""Deployments of prefect.yaml, with their schedules."""
