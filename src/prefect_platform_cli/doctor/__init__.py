"""Checks of a running platform: each declares what holds, looks, and names what does not."""
