"""What every kind of resource is made of: its source, its context and Prefect's API."""
