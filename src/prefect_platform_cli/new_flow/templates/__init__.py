"""Flows from which `prefect-platform new` makes new ones; each is complete and runs."""
