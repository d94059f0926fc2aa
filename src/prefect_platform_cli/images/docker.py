"""Build with an existing Docker engine, with its classic builder or with BuildKit."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from prefect_platform_cli.host.process import run
from prefect_platform_cli.images.builder import Order, run_logged, run_push
from prefect_platform_cli.images.remote import pushed_digest


class Docker:
    """A `Builder` that uses the engine at `host`, or at the client's default address."""

    name = "docker"

    def __init__(self, host: str | None = None) -> None:
        self._environment = {
            **os.environ,
            **({"DOCKER_HOST": host} if host else {}),
            "BUILDKIT_PROGRESS": "plain",
        }

    def version(self) -> str:
        """Return the engine's version; raises PlatformError when it does not answer."""
        return self._docker("version", "--format", "{{.Server.Version}}", timeout=10).strip()

    def references(self) -> list[str]:
        """Return the references in the engine's store, including the user's own images."""
        return self._docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()

    def build(self, order: Order) -> None:
        """Build `order` in the engine."""
        options = ["--network", "host", "--tag", order.reference]
        if order.target is not None:
            options += ["--target", order.target]
        for name, value in order.arguments.items():
            options += ["--build-arg", f"{name}={value}"]
        for name, value in order.labels.items():
            options += ["--label", f"{name}={value}"]
        run_logged(["docker", "build", *options, order.context], order, self._environment)

    def export(self, references: Sequence[str], archive: Path) -> None:
        """Write one archive in the engine's format."""
        self._docker("save", "--output", str(archive), *references)

    def push(self, reference: str, to: str) -> str:
        """Push with the credentials of `docker login`."""
        self._docker("tag", reference, to)
        try:
            printed = run_push(["docker", "push", to], to, self._environment)
        finally:
            self._docker("rmi", to)
        return pushed_digest(printed)

    def pack_files(
        self,
        reference: str,
        patterns: Sequence[str],  # noqa: ARG002 - the engine exports all files
        archive: Path,
    ) -> None:
        """Write all files of an image to a tar file."""
        container = self._docker("create", reference).strip()
        try:
            self._docker("export", "--output", str(archive), container)
        finally:
            self._docker("rm", container)

    def user(self, reference: str) -> str:
        """Return the user of an image."""
        return self._docker("image", "inspect", "--format", "{{.Config.User}}", reference).strip()

    def run_hardened(
        self, reference: str, command: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of the image."""
        limits = ["--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
        return subprocess.run(
            [
                *("docker", "run", "--rm", *limits, "--security-opt=no-new-privileges"),
                *("--entrypoint", command[0], reference, *command[1:]),
            ],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def save_layers(self, reference: str, archive: Path) -> None:
        """Write the image as `export` does."""
        self.export([reference], archive)

    def discard(self, references: Sequence[str]) -> None:
        """Remove the images, but keep the engine's build cache, which belongs to the user."""
        if references:
            self._docker("rmi", "--force", *references)

    def _docker(self, *arguments: str, timeout: float | None = None) -> str:
        return run(
            ["docker", *arguments],
            failure=f"docker {arguments[0]} failed",
            next_step="docker info",
            env=self._environment,
            timeout=timeout,
        )
