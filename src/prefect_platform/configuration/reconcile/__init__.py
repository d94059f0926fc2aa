"""Compare the declared resources with the server, plan the changes, and apply them."""
