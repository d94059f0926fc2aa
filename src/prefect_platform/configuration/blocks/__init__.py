"""Blocks, by the types that are installed."""
