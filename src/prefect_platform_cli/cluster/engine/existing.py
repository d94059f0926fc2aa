"""An existing Docker engine: it runs a cluster's nodes, and its other content is not changed."""

import json
import os
import shutil
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine.engine import (
    Answer,
    EngineKind,
    EngineStatus,
    ask,
    checked_cluster_name,
    engine_environment,
    labels,
)
from prefect_platform_cli.cluster.engine.records import write_atomically
from prefect_platform_cli.host.paths import state_directory
from prefect_platform_cli.host.process import run

_MTU = "com.docker.network.driver.mtu"


class ExistingEngine:
    """The engine that answers at `docker_host`; only a labelled network is created in it."""

    kind: EngineKind = "existing"

    def __init__(self, cluster: str, docker_host: str) -> None:
        self._cluster = checked_cluster_name(cluster)
        self._docker_host = docker_host

    @classmethod
    def recorded(cls, cluster: str) -> "ExistingEngine | None":
        """Return the engine in which `cluster` was created, or None."""
        path = _record(cluster)
        if not path.exists():
            return None
        return cls(cluster, str(json.loads(path.read_text())["docker_host"]))

    @property
    def docker_host(self) -> str:
        """Address for DOCKER_HOST."""
        return self._docker_host

    @property
    def network(self) -> str:
        """Name of the Docker network that the nodes join."""
        return self._cluster

    @property
    def docker(self) -> Path:
        """The Docker command line client on PATH; PlatformError when there is none."""
        found = shutil.which("docker")
        if found is None:
            raise PlatformError(
                f"the Docker engine at {self._docker_host} answers, but the docker command is not "
                "installed",
                next_step="install Docker's command line client, then run the command again",
            )
        return Path(found)

    def environment(self) -> dict[str, str]:
        """Return the variables with which docker and kind use this engine and network."""
        return engine_environment(self.docker, self._docker_host, self.network)

    def start(self) -> bool:
        """Create the cluster's network; PlatformError when the engine does not answer."""
        self._require_answer()
        write_atomically(_record(self._cluster), json.dumps({"docker_host": self._docker_host}))
        if self._own_networks():
            return False
        known = self._docker("network", "ls", "--format", "{{.Name}}").split()
        if self.network in known:
            raise PlatformError(
                f"the Docker engine already has a network {self.network}, which does not belong to "
                "this cluster",
                next_step="set CLUSTER_NAME to a name that no network has",
            )
        named = [f"--label={key}={value}" for key, value in labels(self._cluster).items()]
        sized = self._packet_size() if "bridge" in known else []
        self._docker("network", "create", "--driver=bridge", *named, *sized, self.network)
        return True

    def destroy(self) -> None:
        """Remove the cluster's network and the record of this engine."""
        self._require_answer()
        for network in self._own_networks():
            self._docker("network", "rm", network)
        _record(self._cluster).unlink(missing_ok=True)

    def status(self) -> EngineStatus:
        """Return whether the engine answers, and its version."""
        answer = ask_any(self._docker_host)
        return EngineStatus(
            self.kind,
            running=answer.failure is None,
            version=answer.version,
            reason=answer.failure or self._docker_host,
        )

    def _require_answer(self) -> None:
        failure = ask_any(self._docker_host).failure
        if failure is not None:
            raise PlatformError(
                f"the Docker engine at {self._docker_host} does not answer: {failure}",
                next_step="start it, then run the command again",
            )

    def _packet_size(self) -> list[str]:
        """Return the option for the engine's MTU, which new networks do not inherit."""
        size = self._docker(
            "network", "inspect", "bridge", "--format", f'{{{{index .Options "{_MTU}"}}}}'
        ).strip()
        return [f"--opt={_MTU}={size}"] if size else []

    def _own_networks(self) -> list[str]:
        ours = [f"--filter=label={key}={value}" for key, value in labels(self._cluster).items()]
        return self._docker("network", "ls", *ours, "--format", "{{.Name}}").split()

    def _docker(self, *arguments: str) -> str:
        return run(
            [self.docker, *arguments],
            failure=f"docker {arguments[0]} failed in the Docker engine at {self._docker_host}",
            next_step="docker info",
            env={**os.environ, **self.environment()},
        )


def ask_any(docker_host: str) -> Answer:
    """Ask the engine at `docker_host`, an address of any kind, for its version."""
    if docker_host.startswith("unix://"):
        return ask(docker_host)
    # Only Docker's own client has the TLS keys and can connect over SSH.
    client = shutil.which("docker")
    if client is None:
        return Answer(failure="it needs the docker command, which is not installed")
    try:
        printed = run(
            [client, "--host", docker_host, "version", "--format", "{{.Server.Version}}"],
            failure="`docker version` failed",
            next_step="docker context ls",
            timeout=10,
        )
    except PlatformError as error:
        return Answer(failure=error.message)
    return Answer(version=printed.strip())


def _record(cluster: str) -> Path:
    return state_directory(cluster) / "engine.json"
