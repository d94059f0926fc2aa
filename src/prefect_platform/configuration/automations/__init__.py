"""Automations, and the pack of alerts that are made of them."""
