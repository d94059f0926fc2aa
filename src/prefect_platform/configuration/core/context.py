"""What a configuration refers to and does not hold: Secrets, and base job templates."""

import json
from pathlib import Path
from typing import Any, Protocol


class Placeholder(str):
    """Stands for a value that cannot be read here: what depends on it is not checked."""

    __slots__ = ()


class Context(Protocol):
    """Where the configuration is applied from: a pod, a laptop, or nowhere."""

    @property
    def release(self) -> str:
        """Return the release of prefect-worker in whose name it is applied, NAMESPACE/NAME."""

    def secret(self, name: str, key: str) -> bytes | Placeholder | None:
        """Return the value of a key of a Kubernetes Secret, None when it is not there."""

    def base_job_template(self, pool: str) -> dict[str, Any] | None:
        """Return the template that the worker's chart has for a pool, None when it has none."""

    def how_to_provide(self, secret: str) -> str:
        """Return what to do so that a Secret can be read."""


class Mounted:
    """A pod's: each Secret is a folder of `secrets`, each template a file of `templates`."""

    def __init__(self, secrets: Path, templates: Path, release: str) -> None:
        self._secrets = secrets
        self._templates = templates
        self.release = release

    def secret(self, name: str, key: str) -> bytes | None:
        """Return the value of a mounted Secret."""
        path = self._secrets / name / key
        return path.read_bytes() if path.is_file() else None

    def base_job_template(self, pool: str) -> dict[str, Any] | None:
        """Return the template of the mounted ConfigMap."""
        path = self._templates / f"{pool}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def how_to_provide(self, secret: str) -> str:
        """Return what to do so that a Secret is mounted."""
        return (
            f"create {secret} in the namespace of prefect-worker, and name it in the value "
            "configuration.secrets of that chart"
        )


class Offline:
    """Nobody's: every Secret is there and every pool has a template, to check a file by itself."""

    release = ""

    def secret(self, name: str, key: str) -> Placeholder:
        """Return a text that says which value would stand here."""
        return Placeholder(f"<{key} of the Secret {name}>")

    def base_job_template(self, pool: str) -> dict[str, Any] | None:  # noqa: ARG002
        """Return an empty template."""
        return {}

    def how_to_provide(self, secret: str) -> str:
        """Return what to do; never needed here."""
        return f"create the Secret {secret}"
