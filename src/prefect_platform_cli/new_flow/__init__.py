"""Make new flows from templates."""
