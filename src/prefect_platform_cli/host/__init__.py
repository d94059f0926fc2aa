"""The machine: its paths, its processes, its packages, and the tools that are built on it."""
