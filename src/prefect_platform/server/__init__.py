"""What runs in the server's pods besides Prefect's API, each module a program of its own."""
