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
from prefect_platform_cli.host.variables import refuse_other

DEFAULT_DOCKER_HOST = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class EngineChoice:
    """The engine of a cluster, and the reason for the choice, which is shown to the user."""

    engine: Engine
    reason: str


@dataclass(frozen=True)
class NodeImageChoice:
    """Where the node image comes from, and the reason, which is shown to the user."""

    source: Literal["registry", "build"]
    reason: str


def choose_engine(
    cluster: str, forced: str | None = None, *, docker_host: str | None = None
) -> EngineChoice:
    """Return the engine that `cluster` was created in, else the one that suits the machine.

    `forced` is "existing" or "private"; `docker_host` is the user's DOCKER_HOST. Raises
    PlatformError when no engine can be used, when DOCKER_HOST names one that does not answer,
    and when `forced` is not valid or contradicts the engine that the cluster was created in.
    """
    refuse_other("ENGINE", forced)
    recorded = recorded_engine(cluster)
    if recorded is not None:
        if forced not in (None, recorded.kind):
            raise PlatformError(
                f"the cluster {cluster} was created in the {recorded.kind} engine, not in the "
                f"{forced} one, and cannot be moved",
                next_step="make destroy-cluster, then run the command again; or leave ENGINE out",
            )
        return EngineChoice(recorded, f"the cluster {cluster} was created in it")
    if forced == "private":
        _require_private(because="")
        return EngineChoice(PrivateEngine(cluster), "ENGINE=private")
    # If DOCKER_HOST is the address of a private engine, the user has exported it as deploy told
    # them to. It does not name an engine of the user.
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
            next_step="start it, or run the command again without DOCKER_HOST and ENGINE",
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
    refuse_other("NODE_IMAGE", forced)
    if forced == "registry":
        return NodeImageChoice("registry", "NODE_IMAGE=registry")
    if forced == "build":
        return NodeImageChoice("build", "NODE_IMAGE=build")
    if reason := why_unreachable(registry):
        return NodeImageChoice("build", reason)
    return NodeImageChoice("registry", f"{registry} answers")


def _default_address() -> str:
    """Return the address that Docker's client uses: its current context may set one."""
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
            f"{because}a private engine needs Debian or Ubuntu",
            next_step="install and start Docker, then run the command again",
        )
    if os.geteuid() != 0:
        raise PlatformError(
            f"{because}a private engine needs root",
            next_step="start Docker if it is installed, or run the command again with sudo",
        )
