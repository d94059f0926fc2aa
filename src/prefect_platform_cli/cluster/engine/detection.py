"""Choose the Docker engine and the node image for this machine, and say why."""

import os
import platform
import shutil
from dataclasses import dataclass
from typing import Literal

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine.engine import Engine
from prefect_platform_cli.cluster.engine.existing import ExistingEngine, ask_any
from prefect_platform_cli.cluster.engine.private import PrivateEngine, is_private
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.registry import DOCKER_HUB, why_unreachable

DEFAULT_DOCKER_HOST = "unix:///var/run/docker.sock"
_ENGINES = ("existing", "private")
_NODE_IMAGES = ("registry", "build")


@dataclass(frozen=True)
class EngineChoice:
    """The engine of a cluster, and the reason that the user is shown."""

    engine: Engine
    reason: str


@dataclass(frozen=True)
class NodeImageChoice:
    """Where the node image comes from, and the reason that the user is shown."""

    source: Literal["registry", "build"]
    reason: str


def choose_engine(
    cluster: str, forced: str | None = None, *, docker_host: str | None = None
) -> EngineChoice:
    """Return the engine that `cluster` was created in, else the one that fits the machine.

    `forced` is "existing" or "private"; `docker_host` is the user's DOCKER_HOST. Raises
    PlatformError when no engine can be used, when DOCKER_HOST names one that does not answer,
    and when `forced` is unknown or contradicts the engine that the cluster lives in.
    """
    if forced not in (None, *_ENGINES):
        raise PlatformError(
            f"ENGINE={forced} is not known", next_step=f"use one of {', '.join(_ENGINES)}"
        )
    recorded = recorded_engine(cluster)
    if recorded is not None:
        if forced not in (None, recorded.kind):
            raise PlatformError(
                f"the cluster {cluster} lives in the {recorded.kind} engine, not the {forced} one",
                next_step="make destroy-cluster, then run it again",
            )
        return EngineChoice(recorded, f"the cluster {cluster} was created in it")
    if forced == "private":
        _require_private(because="")
        return EngineChoice(PrivateEngine(cluster), "ENGINE=private")
    # We tell users to export the private engine's address, so it does not name one of theirs.
    if docker_host and not is_private(docker_host):
        address, origin = docker_host, "DOCKER_HOST"
    else:
        address, origin = _default_address(), "Docker's default address"
    failure = ask_any(address).failure
    if failure is None:
        return EngineChoice(ExistingEngine(cluster, address), f"an engine answers at {address}")
    if origin == "DOCKER_HOST" or forced == "existing":
        raise PlatformError(
            f"the Docker engine at {address} ({origin}) does not answer: {failure}",
            next_step="start it, or run it again without DOCKER_HOST and ENGINE",
        )
    _require_private(because=f"no Docker engine answers at {address} ({failure}), and ")
    return EngineChoice(PrivateEngine(cluster), f"no Docker engine answers at {address}")


def recorded_engine(cluster: str) -> Engine | None:
    """Return the engine that `cluster` was created in, or None when there is no such cluster."""
    private = PrivateEngine(cluster)
    return private if private.exists() else ExistingEngine.recorded(cluster)


def choose_node_image(forced: str | None = None, *, registry: str = DOCKER_HUB) -> NodeImageChoice:
    """Return the source of the node image: the registry when it answers, else our own build.

    `forced` is "registry" or "build".
    """
    if forced == "registry":
        return NodeImageChoice("registry", "NODE_IMAGE=registry")
    if forced == "build":
        return NodeImageChoice("build", "NODE_IMAGE=build")
    if forced is not None:
        raise PlatformError(
            f"NODE_IMAGE={forced} is not known", next_step=f"use one of {', '.join(_NODE_IMAGES)}"
        )
    if reason := why_unreachable(registry):
        return NodeImageChoice("build", reason)
    return NodeImageChoice("registry", f"{registry} answers")


def _default_address() -> str:
    """Return the address that Docker's client uses, which its current context may set."""
    client = shutil.which("docker")
    if client is None:
        return DEFAULT_DOCKER_HOST
    inherited = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    try:
        found = run(
            [client, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
            failure="Docker's current context cannot be read",
            next_step="docker context ls",
            env=inherited,
            timeout=10,
        ).strip()
    except PlatformError:  # this client has no contexts
        return DEFAULT_DOCKER_HOST
    return found or DEFAULT_DOCKER_HOST


def _require_private(*, because: str) -> None:
    """Raise PlatformError when this machine cannot run a private engine."""
    if platform.system() != "Linux" or shutil.which("apt-get") is None:
        raise PlatformError(
            f"{because}a private one needs Debian or Ubuntu",
            next_step="install and start Docker, then run it again",
        )
    if os.geteuid() != 0:
        raise PlatformError(
            f"{because}a private one needs root",
            next_step="start Docker if it is installed, or run it again with sudo",
        )
