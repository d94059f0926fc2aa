"""What a configuration refers to without containing it: Secrets and base job templates."""

import json
from pathlib import Path
from typing import Any, Protocol


class Placeholder(str):
    """Stands for a value that cannot be read here; checks that depend on it are skipped."""

    __slots__ = ()


class Context(Protocol):
    """Where the configuration is applied from: a pod, a laptop, or nowhere."""

    @property
    def release(self) -> str:
        """Return the release of prefect-worker that owns the configuration, as NAMESPACE/NAME."""

    def secret(self, name: str, key: str) -> bytes | Placeholder | None:
        """Return the value of a key of a Kubernetes Secret, None when it does not exist."""

    def base_job_template(self, pool: str) -> dict[str, Any] | None:
        """Return the chart's base job template for a pool, None when there is none."""

    def how_to_provide(self, secret: str) -> str:
        """Return the next step for a Secret that cannot be read."""


class Mounted:
    """The context of a pod: each Secret is a folder in `secrets`, each template a file."""

    def __init__(self, secrets: Path, templates: Path, release: str) -> None:
        self._secrets = secrets
        self._templates = templates
        self.release = release

    def secret(self, name: str, key: str) -> bytes | None:
        """Return the value of a mounted Secret."""
        path = self._secrets / name / key
        return path.read_bytes() if path.is_file() else None

    def base_job_template(self, pool: str) -> dict[str, Any] | None:
        """Return the template from the mounted ConfigMap."""
        path = self._templates / f"{pool}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def how_to_provide(self, secret: str) -> str:
        """Return the next step for a Secret that is not mounted."""
        return (
            f"create {secret} in the namespace of prefect-worker, and list it in the value "
            "configuration.secrets of that chart"
        )


class Offline:
    """The context for checking a file alone: every Secret and every template exists."""

    release = ""

    def secret(self, name: str, key: str) -> Placeholder:
        """Return a placeholder that names the value."""
        return Placeholder(f"<{key} of the Secret {name}>")

    def base_job_template(self, pool: str) -> dict[str, Any] | None:  # noqa: ARG002
        """Return an empty template."""
        return {}

    def how_to_provide(self, secret: str) -> str:
        """Return the next step; never shown, because every Secret exists here."""
        return f"create the Secret {secret}"
