"""The repository, and the folders outside it."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def cache_directory() -> Path:
    """Return the folder of built tools and images: safe to delete, but slow to rebuild."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "prefect-platform"


def state_directory(cluster: str) -> Path:
    """Return the folder of a cluster's records and kubeconfig; it is deleted with the cluster."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "prefect-platform" / cluster
