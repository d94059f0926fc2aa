"""The kind cluster that a trial disturbs."""

import json
import os
from dataclasses import dataclass
from typing import Any

from prefect_platform_cli.cluster.engine.detection import recorded_engine
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.process import run
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.chaos.parts import API, DATABASE
from tests.cluster.deployed import eventually, helm, on_node


@dataclass(frozen=True)
class Target:
    """A cluster with the platform."""

    cluster: str
    kubectl: Kubectl

    def listed(self, namespace: str, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind that have the labels of `selector`."""
        found = self.kubectl(
            *(f"--namespace={namespace}", "get", kind, f"--selector={selector}", "--output=json")
        )
        items: list[dict[str, Any]] = json.loads(found)["items"]
        return items

    def running(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Return the pods of `selector` that are running."""
        pods = self.listed(namespace, "pods", selector)
        return [pod for pod in pods if pod["status"]["phase"] == "Running"]

    def is_ha(self) -> bool:
        """Return whether the server is in mode ha, with background services of their own."""
        selector = names.selector(instance=names.SERVER_RELEASE, component="services")
        return bool(self.listed(names.SERVER_NAMESPACE, "deployments", selector))

    def psql(self, statement: str) -> str:
        """Execute a statement in the warehouse, and return what psql prints without a header."""
        return self._psql("data", "statefulset/warehouse", "warehouse", statement)

    def psql_of_server(self, statement: str) -> str:
        """Execute a statement in the database of the server, as `psql` does in the warehouse."""
        return self._psql(DATABASE.namespace, DATABASE.workload, "prefect", statement)

    def _psql(self, namespace: str, workload: str, user: str, statement: str) -> str:
        psql = ("psql", f"--username={user}", f"--dbname={user}", "--no-align", "--tuples-only")
        execute = ("exec", workload, "--", *psql, "--command", statement)
        return self.kubectl(f"--namespace={namespace}", *execute)

    def upgrade_server(self, *options: str, wait: bool = True) -> None:
        """Upgrade the release of the server with `options` such as --set; keep all other values."""
        # The record of an interrupted upgrade would block this one.
        pending = f"--selector=owner=helm,name={names.SERVER_RELEASE},status=pending-upgrade"
        self.kubectl(API.here, "delete", "secret", pending)
        chart = str(REPOSITORY / "helm" / "prefect-server")
        upgrade = ("upgrade", names.SERVER_RELEASE, chart, "--reset-then-reuse-values")
        helm(self.kubectl, names.SERVER_NAMESPACE, *upgrade, *options, wait=wait)

    def nodes(self) -> list[str]:
        """Return the nodes, the control plane first."""
        return sorted(node["metadata"]["name"] for node in self.listed("", "nodes"))

    def worker_node(self) -> str:
        """Return the only node of a cluster with two nodes that runs pods of the platform."""
        (_, worker) = self.nodes()
        return worker

    def docker(self, *command: str) -> str:
        """Run a command of Docker in the engine of the nodes, and return its output."""
        engine = recorded_engine(self.cluster)
        assert engine is not None
        return run(
            [engine.docker, *command],
            failure=f"docker {command[0]} failed for the cluster {self.cluster}",
            next_step=f"make status CLUSTER_NAME={self.cluster}",
            env={**os.environ, **engine.environment()},
        )

    def on_node(self, node: str, *command: str) -> str:
        """Run a command on a node, and return its output."""
        return on_node(*command, cluster=self.cluster, node=node)

    def kill(self, pod: dict[str, Any]) -> None:
        """Kill the only container of a pod with SIGKILL, and wait until the kubelet has noticed."""
        (killed,) = pod["status"]["containerStatuses"]
        container = killed["containerID"].removeprefix("containerd://")
        kill = ("ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", container)
        self.on_node(pod["spec"]["nodeName"], *kill)
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]

        def is_gone() -> bool:
            return all(
                container not in status.get("containerID", "") or "running" not in status["state"]
                for each in self.listed(namespace, "pods")
                if each["metadata"]["name"] == name
                for status in each["status"].get("containerStatuses", ())
            )

        eventually(f"the container of {name} has ended", is_gone)


def target(cluster: str) -> Target:
    """Return the kind cluster with this name."""
    return Target(cluster, Kubectl(KindProvider(cluster).kubeconfig()))
