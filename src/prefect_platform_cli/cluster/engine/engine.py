"""The Docker engine that runs a cluster's nodes, as the rest of the platform uses it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import httpx

from prefect_platform.errors import PlatformError

EngineKind = Literal["existing", "private"]
CLUSTER_LABEL = "prefect-platform.cluster"
_CLUSTER_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,49}")


@dataclass(frozen=True)
class EngineStatus:
    """What `status` shows about an engine: whether it answers, its version or the failure."""

    kind: EngineKind
    running: bool
    version: str
    reason: str


@dataclass(frozen=True)
class Answer:
    """What an engine answered: its version, or why there was no answer."""

    version: str = ""
    failure: str | None = None


class Engine(Protocol):
    """A Docker engine: a private one, or one that already existed."""

    @property
    def kind(self) -> EngineKind:
        """Whether the engine is private or already existed."""

    @property
    def docker_host(self) -> str:
        """Address for DOCKER_HOST."""

    @property
    def network(self) -> str:
        """Name of the Docker network that the nodes join."""

    @property
    def docker(self) -> Path:
        """The Docker command line client."""

    def environment(self) -> dict[str, str]:
        """Return the variables with which docker and kind use this engine and network."""

    def start(self) -> bool:
        """Start the engine and create its network; True when anything changed."""

    def destroy(self) -> None:
        """Remove what `start` created and nothing else, even if it exists only in part."""

    def status(self) -> EngineStatus:
        """Return the kind of engine and whether it answers; never raises if it does not."""


def checked_cluster_name(cluster: str) -> str:
    """Return `cluster`, which becomes part of paths and names, or raise PlatformError."""
    if not _CLUSTER_NAME.fullmatch(cluster):
        raise PlatformError(
            f"the cluster name {cluster!r} is not valid: use at most 50 of a-z, 0-9, . and -, "
            "with a letter or a digit first",
            next_step="set CLUSTER_NAME to a valid name, or leave it out",
        )
    return cluster


def engine_environment(docker: Path, docker_host: str, network: str) -> dict[str, str]:
    """Return the variables that point docker and kind at an engine; its client is first on PATH."""
    return {
        "DOCKER_HOST": docker_host,
        "PATH": f"{docker.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "KIND_EXPERIMENTAL_DOCKER_NETWORK": network,
    }


def ask(docker_host: str, *, timeout: float = 3) -> Answer:
    """Ask the engine at `docker_host` (unix://PATH) for its version; `timeout` is in seconds."""
    transport = httpx.HTTPTransport(uds=docker_host.removeprefix("unix://"))
    try:
        with httpx.Client(transport=transport, timeout=timeout) as client:
            answer = client.get("http://docker/version")
    except httpx.HTTPError as error:
        return Answer(failure=str(error) or type(error).__name__)
    if answer.status_code != httpx.codes.OK:
        return Answer(failure=f"HTTP status {answer.status_code} instead of 200")
    return Answer(version=str(answer.json()["Version"]))


def labels(cluster: str) -> Mapping[str, str]:
    """Return the labels of every object that is created in an engine for `cluster`."""
    return {CLUSTER_LABEL: cluster}
