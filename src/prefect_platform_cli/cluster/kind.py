"""A kind cluster, in the Docker engine and from the node image that suit the machine."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kubernetes.client import ApiException, CoreV1Api, V1Node
from pydantic import BaseModel
from ruamel.yaml import YAML
from urllib3.exceptions import HTTPError

from prefect_platform.console import err, step
from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_while
from prefect_platform_cli.cluster.api import asking_once, is_ready
from prefect_platform_cli.cluster.engine.detection import (
    choose_engine,
    choose_node_image,
    recorded_engine,
)
from prefect_platform_cli.cluster.engine.engine import Engine
from prefect_platform_cli.cluster.engine.records import write_atomically
from prefect_platform_cli.cluster.image_store import ImageStore
from prefect_platform_cli.cluster.node_image.node_image import NodeImage, node_image
from prefect_platform_cli.cluster.provider import ClusterStatus
from prefect_platform_cli.host.paths import REPOSITORY, state_directory
from prefect_platform_cli.host.process import run, tail
from prefect_platform_cli.host.toolchain import version
from prefect_platform_cli.kube.clients import ensure_clients, program
from prefect_platform_cli.kube.kubectl import Kubectl

_MANIFESTS = REPOSITORY / "k8s" / "kind"
_READY_WITHIN = 180  # seconds
_MACHINE_ID = "/etc/machine-id"
_DESTROY = "make destroy-cluster"


class _Record(BaseModel):
    """The nodes' names and fixed addresses, written once the cluster has been created."""

    addresses: dict[str, str]


class KindProvider:
    """The kind cluster `cluster` with `nodes` nodes.

    If `nodes` is None, an existing cluster keeps its nodes, and a new one gets one node.
    """

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
        """Create the cluster or start its stopped nodes; True when anything changed."""
        choice = choose_engine(self._cluster, self._forced_engine, docker_host=self._docker_host)
        err.print(f"engine: {choice.engine.kind} ({choice.reason})")
        record = self._record()
        if record is None:
            # Building the image takes minutes and may fail for lack of disk space, so do it before
            # the engine is started.
            image = self._built_node_image()
            choice.engine.start()
            if self._existing_nodes(choice.engine):
                # kind cannot complete an interrupted creation. The nodes hold no data yet.
                self._delete_nodes(choice.engine)
            self._create(choice.engine, image)
            return True
        if self._nodes not in (None, len(record.addresses)):
            raise PlatformError(
                f"the cluster {self._cluster} has {len(record.addresses)} nodes, not "
                f"{self._nodes}, and kind cannot change that",
                next_step=f"{_DESTROY}, then run the command again; or leave NODES out",
            )
        changed = choice.engine.start()
        if not self.kubeconfig().exists():
            self._kind(
                choice.engine,
                *("export", "kubeconfig", "--name", self._cluster),
                *("--kubeconfig", str(self.kubeconfig())),
            )
            changed = True
        return self._start_nodes(choice.engine, record.addresses) or changed

    def delete(self) -> None:
        """Delete the nodes, a private engine, and every file of the cluster."""
        engine = recorded_engine(self._cluster)
        if engine is not None:
            if engine.kind == "existing" and engine.status().running:
                with step(f"Delete the nodes of {self._cluster}"):
                    self._delete_nodes(engine)
                    self._forget_node_image(engine)
            with step("Remove the engine" if engine.kind == "private" else "Remove the network"):
                engine.destroy()
        if self._state.exists():
            shutil.rmtree(self._state)
            if not any(self._state.parent.iterdir()):
                self._state.parent.rmdir()

    def load_images(self, archive: Path, references: Sequence[str]) -> bool:
        """Load `archive` into the nodes that lack any of `references`."""
        engine = self._require_engine()
        lacking = [
            node
            for node in self._existing_nodes(engine)
            if not set(references) <= set(ImageStore(engine, node).references())
        ]
        if lacking:
            self._kind(
                engine,
                *("load", "image-archive", str(archive)),
                *("--name", self._cluster, "--nodes", ",".join(lacking)),
            )
        return bool(lacking)

    def image_stores(self) -> list[ImageStore]:
        """Return the images of each running node."""
        engine = self._require_engine()
        running = self._existing_nodes(engine, "--filter=status=running")
        return [ImageStore(engine, node) for node in running]

    def kubeconfig(self) -> Path:
        """Return the cluster's own kubeconfig file; ~/.kube/config is never changed."""
        return self._state / "kubeconfig"

    def environment(self) -> dict[str, str]:
        """Return KUBECONFIG and, for a private engine, DOCKER_HOST and the folder for PATH."""
        exports = {"KUBECONFIG": str(self.kubeconfig())}
        engine = recorded_engine(self._cluster)
        if engine is not None and engine.kind == "private":
            exports["DOCKER_HOST"] = engine.docker_host
            needed = [program("kind"), program("kubectl"), engine.docker]
            folders = [f"{each.parent}" for each in needed if not _is_found(each)]
            exports["PATH"] = ":".join([*folders, "$PATH"])
        return exports

    def status(self) -> ClusterStatus:
        """Return the engine, its version, and the state of each node's container."""
        engine = recorded_engine(self._cluster)
        if engine is None:
            facts = [
                (
                    "cluster",
                    f"there is no kind cluster {self._cluster}; make deploy-cluster creates it",
                )
            ]
            return ClusterStatus(running=False, facts=facts)
        found = engine.status()
        facts = [
            ("cluster", f"kind {self._cluster}"),
            ("engine", f"{found.kind}, Docker {found.version}" if found.running else found.reason),
        ]
        if not found.running or self._record() is None:
            why = "its creation was interrupted" if found.running else "its engine is not running"
            facts.append(("nodes", f"{why}; make deploy-cluster completes it"))
            return ClusterStatus(running=False, facts=facts)
        running = set(self._existing_nodes(engine, "--filter=status=running"))
        for node in self._existing_nodes(engine):
            facts.append(("node", f"{node}: {'running' if node in running else 'stopped'}"))
        if not self.kubeconfig().exists():
            facts.append(
                ("kubeconfig", f"{self.kubeconfig()} is missing; make deploy-cluster restores it")
            )
            return ClusterStatus(running=False, facts=facts)
        return ClusterStatus(running=f"{self._cluster}-control-plane" in running, facts=facts)

    def _create(self, engine: Engine, image: NodeImage | None) -> None:
        if image:
            self._load_node_image(engine, image)
        self._state.mkdir(parents=True, exist_ok=True)
        config = self._config(own_image=image is not None)
        count = len(config["nodes"])
        with step(f"Create the kind cluster {self._cluster} with {count} node{'s'[: count - 1]}"):
            self._kind_create(engine, config, image)
        with step("Wait for every node to be Ready"):
            kubectl = Kubectl(self.kubeconfig())
            manifests = ["metrics-server.yaml"]
            if image:
                manifests.append("node-image/network-policy.yaml")
            if image and count > 1:
                manifests.append("node-image/pod-routes.yaml")
            for manifest in manifests:
                kubectl("apply", "--filename", str(_MANIFESTS / manifest))
            self._wait_for_nodes(engine)
        addresses = {node: self._address(engine, node) for node in self._existing_nodes(engine)}
        write_atomically(self._record_path(), _Record(addresses=addresses).model_dump_json())

    def _kind_create(self, engine: Engine, config: dict[str, Any], image: NodeImage | None) -> None:
        """Let kind create the nodes; keep its output, and nodes that fail, for inspection."""
        file, log = self._state / "kind.yaml", self._state / "kind.log"
        with file.open("w") as stream:
            YAML().dump(config, stream)
        command: list[str | Path] = [
            *(program("kind"), "create", "cluster", "--retain", "--name", self._cluster),
            *("--config", file, "--kubeconfig", self.kubeconfig()),
            *(["--image", image.reference] if image else []),
        ]
        with log.open("w") as output:
            ended = subprocess.run(
                command,
                env=_environment(engine),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        if ended.returncode != 0:
            raise PlatformError(
                f"kind cannot create the cluster {self._cluster}; {log} ends: "
                f"{tail(log.read_text())}",
                next_step=f"read {log} and the output of `docker logs "
                f"{self._cluster}-control-plane`, then make deploy-cluster, which starts over",
            )

    def _built_node_image(self) -> NodeImage | None:
        """Return our own build of the node image, or None to use kind's."""
        choice = choose_node_image(self._forced_node_image)
        origin = "kind's own image" if choice.source == "registry" else "built on this machine"
        err.print(f"node image: {origin} ({choice.reason})")
        ensure_clients(["kind", "kubectl"])
        return node_image() if choice.source == "build" else None

    def _load_node_image(self, engine: Engine, image: NodeImage) -> None:
        if not self._docker(engine, "image", "ls", "--quiet", image.reference):
            with step(f"Load the node image of Kubernetes {version('kubelet')}"):
                self._docker(engine, "load", "--quiet", "--input", str(image.archive))

    def _delete_nodes(self, engine: Engine) -> None:
        # Without this option, kind would read ~/.kube, and create it if it is missing.
        own = ("--kubeconfig", str(self.kubeconfig()))
        self._kind(engine, "delete", "cluster", "--name", self._cluster, *own)

    def _forget_node_image(self, engine: Engine) -> None:
        reference = "reference=prefect-platform.local/node"
        for image in self._docker(engine, "image", "ls", "--quiet", "--filter", reference).split():
            # Docker refuses to remove an image that another cluster in this engine runs.
            if not self._docker(engine, "ps", "--all", "--quiet", f"--filter=ancestor={image}"):
                self._docker(engine, "image", "rm", image)

    def _config(self, *, own_image: bool) -> dict[str, Any]:
        config: dict[str, Any] = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}
        if own_image:
            config = YAML(typ="safe").load(_MANIFESTS / "cluster.yaml")
        workers = (self._nodes or 1) - 1
        return {**config, "nodes": [{"role": "control-plane"}, *[{"role": "worker"}] * workers]}

    def _start_nodes(self, engine: Engine, addresses: dict[str, str]) -> bool:
        """Start the stopped nodes, each at the address that its certificates contain."""
        stopped = set(addresses) - set(self._existing_nodes(engine, "--filter=status=running"))
        missing = set(addresses) - set(self._existing_nodes(engine))
        if missing:
            raise PlatformError(
                f"the cluster {self._cluster} is broken: the container of its node {min(missing)} "
                "is missing",
                next_step=f"{_DESTROY}, then run the command again",
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
                # The engine assigns addresses in the order in which nodes start: keep that order.
                self._docker(engine, "stop", *addresses)
                stopped = set(addresses)
            for node in sorted(stopped, key=lambda name: _numeric(addresses[name])):
                self._docker(engine, "start", node)
            self._wait_for_nodes(engine)
            self._wait_for_current_pod_states(engine)
        return True

    def _existing_nodes(self, engine: Engine, *filters: str) -> list[str]:
        label = f"--filter=label=io.x-k8s.kind.cluster={self._cluster}"
        names = self._docker(engine, "ps", "--all", label, *filters, "--format={{.Names}}")
        return sorted(names.split())

    def _address(self, engine: Engine, node: str) -> str:
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._docker(engine, "inspect", "--format", template, node).strip()

    def _record_path(self) -> Path:
        return self._state / "kind.json"

    def _record(self) -> _Record | None:
        """Return the record of a finished creation; None when no creation has finished."""
        path = self._record_path()
        return _Record.model_validate_json(path.read_text()) if path.exists() else None

    def _require_engine(self) -> Engine:
        engine = recorded_engine(self._cluster)
        if engine is None:
            raise PlatformError(
                f"there is no cluster {self._cluster}", next_step="make deploy-cluster"
            )
        return engine

    def _wait_for_nodes(self, engine: Engine) -> None:
        """Wait for the API, and until every node's current kubelet reports the node Ready."""
        nodes = self._existing_nodes(engine)

        def missing(core: CoreV1Api) -> str:
            if not is_ready(core.api_client):
                return "its API is still starting"
            listed = core.list_node(_request_timeout=10).items
            ready = {node.metadata.name for node in listed if self._is_ready(engine, node)}
            return ", ".join(sorted(set(nodes) - ready))

        self._wait_until_none(
            missing, f"the cluster {self._cluster} is not Ready after {_READY_WITHIN} s"
        )

    def _is_ready(self, engine: Engine, node: V1Node) -> bool:
        conditions = {each.type: each.status for each in node.status.conditions or []}
        if conditions.get("Ready") != "True":
            return False
        # The machine ID changes whenever a node starts, so a stale report has an older one.
        read = ("exec", node.metadata.name, "cat", _MACHINE_ID)
        try:
            return bool(self._docker(engine, *read).strip() == node.status.node_info.machine_id)
        except PlatformError:  # the node is still starting
            return False

    def _wait_for_current_pod_states(self, engine: Engine) -> None:
        """Wait until no container that ended with its node is still reported as running."""
        started = {
            node: self._started(engine, node)
            for node in self._existing_nodes(engine, "--filter=status=running")
        }

        def outdated(core: CoreV1Api) -> str:
            return ", ".join(
                f"{pod.metadata.namespace}/{pod.metadata.name}"
                for pod in core.list_pod_for_all_namespaces(_request_timeout=10).items
                for status in pod.status.container_statuses or []
                if status.state.running
                and status.state.running.started_at < started[pod.spec.node_name]
            )

        self._wait_until_none(
            outdated,
            f"after {_READY_WITHIN} s the cluster {self._cluster} still reports containers as "
            "running that ended when their node stopped",
            every=1,
        )

    def _wait_until_none(
        self, lacking: Callable[[CoreV1Api], str], failure: str, *, every: float = 0.1
    ) -> None:
        """Wait until the cluster's API answers and `lacking` finds nothing missing."""
        core = CoreV1Api(asking_once(self.kubeconfig()))

        def left() -> str:
            try:
                return lacking(core)
            except (ApiException, HTTPError) as error:
                return f"its API does not answer: {error}"

        if found := wait_while(left, _READY_WITHIN, every=every):
            raise PlatformError(
                f"{failure}: {found}",
                next_step=f"make status; if the problem persists: {_DESTROY}, then run the command "
                "again",
            )

    def _started(self, engine: Engine, node: str) -> datetime:
        """Return when the node's container started, to the second, as Kubernetes writes times."""
        written = self._docker(engine, "inspect", "--format={{.State.StartedAt}}", node)
        return datetime.fromisoformat(f"{written[:19]}+00:00")

    def _kind(self, engine: Engine, *arguments: str) -> None:
        run(
            [program("kind"), *arguments],
            failure=f"kind {arguments[0]} {arguments[1]} failed for the cluster {self._cluster}",
            next_step="run the same command again: it continues where this one stopped",
            env=_environment(engine),
        )

    def _docker(self, engine: Engine, *arguments: str) -> str:
        return run(
            [engine.docker, *arguments],
            failure=f"docker {arguments[0]} failed for the cluster {self._cluster}",
            next_step="make status",
            env=_environment(engine),
        )


def _environment(engine: Engine) -> dict[str, str]:
    return {**os.environ, **engine.environment()}


def _is_found(path: Path) -> bool:
    """Return whether the shell already finds `path`, so that PATH does not need its folder."""
    return shutil.which(path.name) == str(path)


def _numeric(address: str) -> tuple[int, ...]:
    return tuple(int(part) for part in address.split("."))
