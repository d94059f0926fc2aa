"""Find the credentials that `docker login`, `podman login` or `buildah login` has written."""

import os
from pathlib import Path


def credentials_file(host: str) -> Path | None:
    """Return the first file that names the registry `host`, in the order in which Podman looks."""
    if given := os.environ.get("REGISTRY_AUTH_FILE"):
        return Path(given)
    home = Path.home()
    session = os.environ.get("XDG_RUNTIME_DIR")
    runtime = f"{session}/containers" if session else f"/run/containers/{os.geteuid()}"
    settings = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    docker = os.environ.get("DOCKER_CONFIG") or home / ".docker"
    files = (
        Path(runtime, "auth.json"),
        Path(settings, "containers", "auth.json"),
        Path(docker, "config.json"),
    )
    return next((file for file in files if file.exists() and host in file.read_text()), None)
