"""What all kinds of resources share: reading files, resolving references, and Prefect's API."""
