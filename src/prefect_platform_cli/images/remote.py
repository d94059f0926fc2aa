"""The images in a registry, and their lists of packages, which ORAS reads and attaches."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.credentials import credentials_file
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.registry import is_on_this_machine
from prefect_platform_cli.host.toolchain import tool

REVISION = "org.opencontainers.image.revision"
_SBOM = "application/spdx+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ADDRESS = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+")
_REFUSED = re.compile(r"unauthorized|denied|forbidden|\b40[13]\b", re.IGNORECASE)


class AbsentError(PlatformError):
    """The registry answers that it has no such image."""


@dataclass(frozen=True)
class Registry:
    """The images below `address`, which is HOST/PATH; raises PlatformError for another form.

    Each method raises PlatformError when the registry does not answer or refuses the credentials.
    """

    address: str

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise PlatformError(
                f"REGISTRY={self.address} is not the address of a registry",
                next_step="write it as HOST/PATH, for example REGISTRY=ghcr.io/example/platform",
            )

    @property
    def host(self) -> str:
        return self.address.partition("/")[0]

    def access(self) -> list[str]:
        """Return the options with which both ORAS and Helm reach the registry."""
        file = credentials_file(self.host)
        return [
            *(["--plain-http"] if is_on_this_machine(self.host) else []),
            *([f"--registry-config={file}"] if file else []),
        ]

    def find(self, name: str, tag: str) -> str | None:
        """Return the digest of an image; None if it, or its list of packages, is not there."""
        limits = ["--depth=1", f"--artifact-type={_SBOM}", "--format=json"]
        try:
            found = json.loads(self._oras("discover", f"{self.address}/{name}:{tag}", *limits))
        except AbsentError:
            return None
        return str(found["digest"]) if found.get("referrers") else None

    def digest(self, name: str, tag: str) -> str:
        """Return the digest of an image; raises AbsentError when it is not there."""
        return self._oras("resolve", f"{self.address}/{name}:{tag}").strip()

    def attach(self, name: str, digest: str, sbom: Path) -> None:
        """Attach the list of its packages to an image."""
        self._oras(
            *("attach", f"{self.address}/{name}@{digest}", f"--artifact-type={_SBOM}"),
            f"{sbom.name}:{_SBOM}",
            folder=sbom.parent,
        )

    def labels(self, name: str, digest: str) -> Mapping[str, str]:
        """Return the labels of an image; raises AbsentError when it is not there."""
        config = json.loads(self._oras("manifest fetch-config", f"{self.address}/{name}@{digest}"))
        labels: dict[str, str] = config["config"].get("Labels") or {}
        return labels

    def _oras(self, verb: str, reference: str, *arguments: str, folder: Path | None = None) -> str:
        access = self.access()
        try:
            return run(
                [tool("oras"), *verb.split(), *access, reference, *arguments],
                failure=f"{reference} cannot be read",
                next_step="run the command again",
                cwd=folder,
            )
        except PlatformError as error:
            raise _explained(reference, self.host, error.message) from error


def pushed_digest(printed: str) -> str:
    """Return the digest in what `docker push` or `helm push` has printed."""
    return str(_DIGEST.findall(printed)[-1])


def _explained(reference: str, host: str, message: str) -> PlatformError:
    if _REFUSED.search(message):
        file = credentials_file(host)
        given = f"the credentials in {file}" if file else "a request without credentials"
        return PlatformError(
            f"the registry {host} refuses {given}", next_step=f"docker login {host}"
        )
    if ": not found" in message:
        return AbsentError(
            f"the registry {host} has no {reference}",
            next_step="make push REGISTRY=HOST/PATH ENVIRONMENT=staging",
        )
    return PlatformError(
        f"the registry {host} does not answer: {message}",
        next_step="check its address and the network, then run the command again",
    )
