"""A kind cluster, in the engine and from the node image that fit the machine."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from prefect_platform.cluster.engine import Engine
from prefect_platform.cluster.engine_detection import (
    choose_engine,
    choose_node_image,
    recorded_engine,
)
from prefect_platform.cluster.node_image import node_image
from prefect_platform.cluster.provider import ClusterStatus
from prefect_platform.cluster.records import write_atomically
from prefect_platform.cluster.toolchain import tool, version
from prefect_platform.console import err, step
from prefect_platform.errors import PlatformError
from prefect_platform.paths import REPOSITORY, state_directory
from prefect_platform.process import run

_MANIFESTS = REPOSITORY / "k8s" / "kind"
_READY_WITHIN = 180  # seconds
_DESTROY = "make destroy-cluster"


class _Record(BaseModel):
    """What a finished creation leaves: node names with the addresses that they keep."""

    addresses: dict[str, str]


class KindProvider:
    """The kind cluster `cluster` with `nodes` nodes (None: as many as it has, one when new)."""

    name = "kind"

    def __init__(
        self,
        cluster: str,
        *,
        nodes: int | None = None,
        engine: str | None = None,
        node_image: str | None = None,
        docker_host: str | None = None,
    ) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._forced_engine = engine
        self._forced_node_image = node_image
        self._docker_host = docker_host
        self._state = state_directory(cluster)

    def create(self) -> bool:
        """Create the cluster, start its stopped nodes, or find it complete; True when changed."""
        choice = choose_engine(self._cluster, self._forced_engine, docker_host=self._docker_host)
        err.print(f"engine: {choice.engine.kind} ({choice.reason})")
        changed = choice.engine.start()
        record = self._record()
        nodes = self._existing_nodes(choice.engine)
        if record is None:
            if nodes:
                # An interrupted creation: kind cannot complete it, and it holds nobody's data.
                self._kind(choice.engine, "delete", "cluster", "--name", self._cluster)
            self._create(choice.engine)
            return True
        if self._nodes not in (None, len(record.addresses)):
            raise PlatformError(
                f"the cluster {self._cluster} has {len(record.addresses)} nodes, not "
                f"{self._nodes}, and kind cannot change that",
                next_step=f"{_DESTROY}, then run it again; or leave NODES out",
            )
        return self._start_nodes(choice.engine, record.addresses) or changed

    def delete(self) -> None:
        """Delete the nodes, the engine when it is ours, and every file of the cluster."""
        engine = recorded_engine(self._cluster)
        if engine is not None:
            if engine.kind == "existing":
                with step(f"Delete the nodes of {self._cluster}"):
                    self._kind(engine, "delete", "cluster", "--name", self._cluster)
                    self._forget_node_image(engine)
            with step("Remove the engine" if engine.kind == "private" else "Remove the network"):
                engine.destroy()
        for path in (self.kubeconfig(), self._record_path()):
            path.unlink(missing_ok=True)
        if self._state.exists():
            self._state.rmdir()
            for parent in self._state.parents[:1]:
                if not any(parent.iterdir()):
                    parent.rmdir()

    def load_images(self, archive: Path, references: Sequence[str]) -> bool:
        """Load `archive` into the nodes that lack one of `references`."""
        engine = self._require_engine()
        lacking = [
            node
            for node in self._existing_nodes(engine)
            if not set(references) <= set(self._images(engine, node))
        ]
        if lacking:
            self._kind(
                engine,
                *("load", "image-archive", str(archive)),
                *("--name", self._cluster, "--nodes", ",".join(lacking)),
            )
        return bool(lacking)

    def kubeconfig(self) -> Path:
        """Return the cluster's own kubeconfig: ~/.kube/config is never touched."""
        return self._state / "kubeconfig"

    def environment(self) -> dict[str, str]:
        """Return KUBECONFIG, and DOCKER_HOST and PATH's first folder where the engine is ours."""
        exports = {"KUBECONFIG": str(self.kubeconfig())}
        engine = recorded_engine(self._cluster)
        if engine is not None and engine.kind == "private":
            exports["DOCKER_HOST"] = engine.docker_host
            exports["PATH"] = (
                f"{tool('kind').parent}:{tool('kubectl').parent}:{engine.docker.parent}:$PATH"
            )
        return exports

    def status(self) -> ClusterStatus:
        """Return the engine, its version, and the state of each node's container."""
        engine = recorded_engine(self._cluster)
        if engine is None:
            facts = [("cluster", f"kind {self._cluster}: there is none; make deploy-cluster")]
            return ClusterStatus(running=False, facts=facts)
        found = engine.status()
        facts = [
            ("cluster", f"kind {self._cluster}"),
            ("engine", f"{found.kind}, Docker {found.version}" if found.running else found.reason),
        ]
        if not found.running or self._record() is None:
            why = "its creation was interrupted" if found.running else "its engine does not run"
            facts.append(("nodes", f"{why}; make deploy-cluster completes it"))
            return ClusterStatus(running=False, facts=facts)
        running = set(self._existing_nodes(engine, "--filter=status=running"))
        for node in self._existing_nodes(engine):
            facts.append(("node", f"{node}: {'running' if node in running else 'stopped'}"))
        return ClusterStatus(running=bool(running), facts=facts)

    def _create(self, engine: Engine) -> None:
        image = self._ensure_node_image(engine)
        self._state.mkdir(parents=True, exist_ok=True)
        config = self._config(own_image=image is not None)
        count = len(config["nodes"])
        with step(f"Create the kind cluster {self._cluster} with {count} node{'s'[: count - 1]}"):
            file = self._state / "kind.yaml"
            with file.open("w") as stream:
                YAML().dump(config, stream)
            try:
                self._kind(
                    engine,
                    *("create", "cluster", "--name", self._cluster, "--config", str(file)),
                    *("--kubeconfig", str(self.kubeconfig())),
                    *(["--image", image] if image else []),
                )
            finally:
                file.unlink()
        with step("Wait for every node to be Ready"):
            self._apply("metrics-server.yaml")
            if image and count > 1:
                self._apply("node-image/pod-routes.yaml")
            self._wait_for_nodes()
        addresses = {node: self._address(engine, node) for node in self._existing_nodes(engine)}
        write_atomically(self._record_path(), _Record(addresses=addresses).model_dump_json())

    def _ensure_node_image(self, engine: Engine) -> str | None:
        """Return the reference of our node image in `engine`, or None to take kind's own."""
        choice = choose_node_image(self._forced_node_image)
        origin = "kind's own" if choice.source == "registry" else "our own build"
        err.print(f"node image: {origin} ({choice.reason})")
        if choice.source == "registry":
            return None
        built = node_image()
        if not self._docker(engine, "image", "ls", "--quiet", built.reference):
            with step(f"Load the node image of Kubernetes {version('kubelet')}"):
                self._docker(engine, "load", "--quiet", "--input", str(built.archive))
        return built.reference

    def _forget_node_image(self, engine: Engine) -> None:
        reference = "reference=prefect-platform.local/node"
        for image in self._docker(engine, "image", "ls", "--quiet", "--filter", reference).split():
            self._docker(engine, "image", "rm", image)

    def _config(self, *, own_image: bool) -> dict[str, Any]:
        config: dict[str, Any] = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}
        if own_image:
            config = YAML(typ="safe").load(_MANIFESTS / "cluster.yaml")
        workers = (self._nodes or 1) - 1
        return {**config, "nodes": [{"role": "control-plane"}, *[{"role": "worker"}] * workers]}

    def _start_nodes(self, engine: Engine, addresses: dict[str, str]) -> bool:
        """Start nodes that do not run, each at the address that its certificates name."""
        stopped = set(addresses) - set(self._existing_nodes(engine, "--filter=status=running"))
        missing = set(addresses) - set(self._existing_nodes(engine))
        if missing:
            raise PlatformError(
                f"the cluster {self._cluster} has lost its node {min(missing)}",
                next_step=f"{_DESTROY}, then run it again",
            )
        moved = [
            node
            for node in addresses
            if node not in stopped and self._address(engine, node) != addresses[node]
        ]
        if not stopped and not moved:
            return False
        with step(f"Start the nodes of {self._cluster} again"):
            if moved:
                # The engine gives addresses in the order of starting: start all in the old order.
                self._docker(engine, "stop", *addresses)
                stopped = set(addresses)
            for node in sorted(stopped, key=lambda name: _numeric(addresses[name])):
                self._docker(engine, "start", node)
            self._wait_for_nodes()
        return True

    def _existing_nodes(self, engine: Engine, *filters: str) -> list[str]:
        label = f"--filter=label=io.x-k8s.kind.cluster={self._cluster}"
        names = self._docker(engine, "ps", "--all", label, *filters, "--format={{.Names}}")
        return sorted(names.split())

    def _images(self, engine: Engine, node: str) -> list[str]:
        listed = self._docker(engine, "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q")
        return listed.split()

    def _address(self, engine: Engine, node: str) -> str:
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._docker(engine, "inspect", "--format", template, node).strip()

    def _record_path(self) -> Path:
        return self._state / "kind.json"

    def _record(self) -> _Record | None:
        """Return what the finished creation wrote, None when there was none."""
        path = self._record_path()
        return _Record.model_validate_json(path.read_text()) if path.exists() else None

    def _require_engine(self) -> Engine:
        engine = recorded_engine(self._cluster)
        if engine is None:
            raise PlatformError(
                f"there is no cluster {self._cluster}", next_step="make deploy-cluster"
            )
        return engine

    def _wait_for_nodes(self) -> None:
        self._kubectl(
            "wait", "--for=condition=Ready", "node", "--all", f"--timeout={_READY_WITHIN}s"
        )

    def _apply(self, manifest: str) -> None:
        self._kubectl("apply", "--filename", str(_MANIFESTS / manifest))

    def _kubectl(self, *arguments: str) -> None:
        run(
            [tool("kubectl"), "--kubeconfig", self.kubeconfig(), *arguments],
            failure=f"the cluster {self._cluster} did not become ready",
            next_step=f"make status; if it stays so: {_DESTROY}, then run it again",
        )

    def _kind(self, engine: Engine, *arguments: str) -> None:
        run(
            [tool("kind"), *arguments],
            failure=f"kind {arguments[0]} {arguments[1]} failed for the cluster {self._cluster}",
            next_step="run the same command again: it starts from where this one stopped",
            env={**os.environ, **engine.environment()},
        )

    def _docker(self, engine: Engine, *arguments: str) -> str:
        return run(
            [engine.docker, *arguments],
            failure=f"docker {arguments[0]} failed for the cluster {self._cluster}",
            next_step="make status",
            env={**os.environ, **engine.environment()},
        )


def _numeric(address: str) -> tuple[int, ...]:
    return tuple(int(part) for part in address.split("."))
