"""Build with buildah, which needs no daemon, in a store of its own."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.debian import ensure_packages
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.registry import is_on_this_machine
from prefect_platform_cli.images.builder import Order, run_logged, run_push
from prefect_platform_cli.images.catalogue import REGISTRY
from prefect_platform_cli.images.hardened import hardened
from prefect_platform_cli.images.layout import Layout
from prefect_platform_cli.images.pip_settings import certificate_authority

_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# buildah runs in its own namespaces, so that it never leaves a mount or process behind.
_NAMESPACES = (
    *("unshare", "--mount", "--propagation", "private"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)
_INSTALLER = f"{REGISTRY}/installer:kept"


class Buildah:
    """A `Builder` whose store is `folder`; needs root."""

    name = "buildah"

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            raise PlatformError(
                "buildah needs root to build images",
                next_step="run the command as root, or start a Docker engine",
            )
        ensure_packages("buildah")
        self._store = folder / "store"
        self._run = folder / "run"
        self._temporary = folder / "temporary"
        self._layout = Layout(folder / "layout")
        # The mounts of an interrupted build ended with its process: only records of them are left.
        for leftover in (self._run, self._temporary):
            shutil.rmtree(leftover, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._buildah("rm", "--all")

    def references(self) -> list[str]:
        """Return the references in the store."""
        return self._buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()

    def build(self, order: Order) -> None:
        """Build `order`, but first its installer stage with a tag, so that it stays cached."""
        if order.installer is not None:
            self._bud(order, _INSTALLER, order.installer)
        self._bud(order, order.reference, order.target)

    def export(self, references: Sequence[str], archive: Path) -> None:
        """Write one OCI archive; layers with zstd load in half the time of uncompressed ones."""
        for reference in references:
            if reference not in self._layout.references():
                self._buildah(
                    *("push", "--quiet", "--compression-format", "zstd"),
                    *("--compression-level", "3"),
                    *(reference, f"oci:{self._layout.path}:{reference}"),
                )
        self._layout.pack(references, archive)

    def push(self, reference: str, to: str) -> str:
        """Push with the credentials of `podman login`, `buildah login` or `docker login`."""
        verify = str(not is_on_this_machine(to)).lower()
        digest = self._temporary / "digest"
        push = ["push", "--quiet", f"--tls-verify={verify}", f"--digestfile={digest}"]
        run_push([*self._command(), *push, reference, f"docker://{to}"], to, self._environment())
        return digest.read_text().strip()

    def pack_files(self, reference: str, patterns: Sequence[str], archive: Path) -> None:
        """Write the files of an image that match `patterns` to a tar file."""
        container = self._buildah("from", "--pull-never", reference).strip()
        matches = shlex.join(
            [word for each in patterns for word in ("-o", "-path", f"./{each}")][1:]
        )
        # The mount is only visible in the namespaces of this shell, and ends with them.
        script = (
            f'root=$("$@" mount {shlex.quote(container)}) && cd "$root" '
            f"&& find . -type f '(' {matches} ')' "
            f"-exec tar --append --file={shlex.quote(str(archive))} {{}} +"
        )
        try:
            run(
                [*_NAMESPACES, "sh", "-c", script, "sh", *self._program()],
                failure=f"the files of {reference} cannot be read",
                next_step="run the command again",
                env=self._environment(),
            )
        finally:
            self._buildah("rm", container)

    def user(self, reference: str) -> str:
        """Return the user of an image."""
        return str(self._config(reference).get("User", ""))

    def run_hardened(
        self, reference: str, command: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with chroot on the image."""
        container = self._buildah("from", "--pull-never", reference).strip()
        config = self._config(reference)
        try:
            return subprocess.run(
                hardened(self._program(), container, config, command, network=False),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            self._buildah("rm", container)

    def save_layers(self, reference: str, archive: Path) -> None:
        """Write the image with uncompressed layers."""
        self._buildah("push", "--quiet", reference, f"docker-archive:{archive}:{reference}")

    def discard(self, references: Sequence[str]) -> None:
        """Remove the images, their layers and their exports."""
        if references:
            self._buildah("rmi", "--force", *references)
            self._layout.keep(
                [kept for kept in self._layout.references() if kept not in references]
            )
        self._buildah("rmi", "--prune")

    def _config(self, reference: str) -> dict[str, Any]:
        inspected = self._buildah("inspect", "--type", "image", reference)
        config: dict[str, Any] = json.loads(inspected)["OCIv1"]["config"]
        return config

    def _bud(self, order: Order, reference: str, target: str | None) -> None:
        # With chroot isolation, neither an OCI runtime nor a control group is needed.
        options = ["--layers", "--isolation", "chroot", "--network", "host", "--tag", reference]
        if order.base_is_local:
            options += ["--pull-never"]
        if target is not None:
            options += ["--target", target]
        arguments = dict(order.arguments)
        authority = certificate_authority()
        if authority is not None:
            options += ["--volume", f"{authority}:{_AUTHORITIES}:ro"]
            arguments["PIP_CERT"] = _AUTHORITIES
        for name, value in arguments.items():
            options += ["--build-arg", f"{name}={value}"]
        for name, value in order.labels.items():
            options += ["--label", f"{name}={value}"]
        run_logged([*self._command(), "bud", *options, order.context], order, self._environment())

    def _command(self) -> list[str | Path]:
        return [*_NAMESPACES, *self._program()]

    def _program(self) -> list[str | Path]:
        return [
            *("buildah", "--storage-driver", "overlay"),
            *("--root", self._store, "--runroot", self._run),
        ]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self._temporary)}

    def _buildah(self, *arguments: str) -> str:
        return run(
            [*self._command(), *arguments],
            failure=f"buildah {arguments[0]} failed",
            next_step=f"rm -r {self._store.parent}, then run the command again",
            env=self._environment(),
        )
