"""Automations, and the alerts that are built from them."""
