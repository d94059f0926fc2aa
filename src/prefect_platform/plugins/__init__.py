"""What Prefect loads: each changes one thing of it, and docs/upstream.md says why."""
