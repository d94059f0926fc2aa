"""Reconciles flow runs with their Jobs; runs in a pod of the chart prefect-worker."""
