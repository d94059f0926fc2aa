"""Find the credentials that `docker login`, `podman login` or `buildah login` has written."""

import json
import os
from pathlib import Path

from prefect_platform.errors import PlatformError


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
    return next((file for file in files if host in _hosts(file)), None)


def _hosts(file: Path) -> set[str]:
    """Return the registries that a file names; raises PlatformError when it cannot be read."""
    if not file.exists():
        return set()
    try:
        content = json.loads(file.read_text())
        named = {**content.get("auths", {}), **content.get("credHelpers", {})}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise PlatformError(
            f"the credentials in {file} cannot be read: {error}",
            next_step="correct or remove the file, and log in again",
        ) from error
    return {name.removeprefix("https://").partition("/")[0] for name in named}
