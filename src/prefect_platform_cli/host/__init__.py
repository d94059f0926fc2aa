"""The machine: its paths, processes, packages and the tools that are built on it."""
