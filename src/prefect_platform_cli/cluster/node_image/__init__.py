"""The node image for machines that cannot pull one."""
