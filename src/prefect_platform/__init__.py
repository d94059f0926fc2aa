"""What runs in pods: the server's and the worker's programs, the configuration, plugins."""
