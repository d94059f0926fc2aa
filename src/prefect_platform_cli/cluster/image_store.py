"""The images of a node of a kind cluster, in the store of its containerd."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine.engine import Engine
from prefect_platform_cli.host.process import run

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageStore:
    """The images of the running node `node`, whose container is in `engine`."""

    engine: Engine
    node: str

    def references(self) -> list[str]:
        """Return the references of all images."""
        return self._ctr("images", "ls", "--quiet").split()

    def describe(self, reference: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the manifest and the configuration of an image.

        Raises PlatformError when the node does not have it.
        """
        found = _DIGEST.search(self._ctr("images", "ls", f"name=={reference}"))
        if found is None:
            raise PlatformError(
                f"the node {self.node} does not have the image {reference}", next_step="make image"
            )
        manifest = self._content(found[0])
        while "manifests" in manifest:  # Docker may store an index, with the image as its first
            manifest = self._content(manifest["manifests"][0]["digest"])
        return manifest, self._content(manifest["config"]["digest"])

    def load(self, archive: Path) -> None:
        """Load an OCI archive, which need not have the blobs that the node has.

        `kind load` takes four times as long, and leaves a second reference for each archive.
        """
        self._run("sh", "-c", 'exec "$@" <"$0"', archive, *self._command("images", "import", "-"))

    def remove(self, references: Sequence[str]) -> None:
        """Remove images; containerd then removes the layers that only they use."""
        if references:
            self._ctr("images", "rm", *references)

    def _content(self, digest: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._ctr("content", "get", digest))
        return content

    def _ctr(self, *arguments: str) -> str:
        return self._run(*self._command(*arguments))

    def _command(self, *arguments: str) -> list[str | Path]:
        ctr = ("ctr", "--namespace=k8s.io", *arguments)
        return [self.engine.docker, "exec", "--interactive", self.node, *ctr]

    def _run(self, *argv: str | Path) -> str:
        return run(
            argv,
            failure=f"the images of the node {self.node} cannot be read or changed",
            next_step="make status",
            env={**os.environ, **self.engine.environment()},
        )
