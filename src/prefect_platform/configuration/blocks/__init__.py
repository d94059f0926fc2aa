"""Blocks of all installed block types."""
