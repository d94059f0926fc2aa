"""Programs that run in the server's pods besides Prefect's API; each module is one of them."""
