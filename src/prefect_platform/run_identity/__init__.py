"""Which flow run a request to the API comes from, and what that run may do there."""
