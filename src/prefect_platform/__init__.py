"""Everything that runs in pods: programs of the server and the worker, configuration, plugins."""
