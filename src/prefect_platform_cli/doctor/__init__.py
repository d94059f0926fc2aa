"""Checks of a running platform: each probes what should hold, and names what does not."""
