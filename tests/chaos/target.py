"""The kind cluster that a trial disturbs."""

import json
from dataclasses import dataclass
from typing import Any

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import eventually, on_node


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

    def is_ha(self) -> bool:
        """Return whether the server is in mode ha, with background services of their own."""
        selector = names.selector(instance=names.SERVER_RELEASE, component="services")
        return bool(self.listed(names.SERVER_NAMESPACE, "deployments", selector))

    def psql(self, statement: str) -> str:
        """Execute a statement in the warehouse, and return what psql prints without a header."""
        psql = ("psql", "--username=warehouse", "--dbname=warehouse", "--no-align", "--tuples-only")
        run = ("exec", "statefulset/warehouse", "--", *psql, "--command", statement)
        return self.kubectl("--namespace=data", *run)

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
