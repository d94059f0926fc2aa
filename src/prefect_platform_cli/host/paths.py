"""The folders outside of the repository, and the repository itself."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def cache_directory() -> Path:
    """Tools and base images by version and checksum: safe to delete, costly to rebuild."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "prefect-platform"


def state_directory(cluster: str) -> Path:
    """One cluster's engine, records and kubeconfig; deleted with the cluster."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "prefect-platform" / cluster
