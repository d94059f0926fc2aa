"""Plugins that Prefect loads. Each changes one behaviour; docs/upstream.md explains why."""
