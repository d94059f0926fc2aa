"""The node image for a machine that can pull none."""
