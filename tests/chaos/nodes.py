"""Faults of the node on which the platform and all runs are."""

from dataclasses import dataclass

from prefect_platform_cli.cluster.kind import KindProvider
from tests.chaos.fault import Fault
from tests.chaos.outages import await_pods
from tests.chaos.parts import API, DATABASE, OBJECT_STORE, WAREHOUSE, WORKER, Part
from tests.chaos.target import Target

# The order in which they need each other.
_ON_THE_NODE = (DATABASE, API, OBJECT_STORE, WAREHOUSE, WORKER)


@dataclass(frozen=True, kw_only=True)
class OfTheNode(Fault):
    """A fault of the only worker node of a cluster."""

    nodes: int = 2

    @property
    def parts(self) -> frozenset[Part]:
        """Return all parts: the control plane runs none of them."""
        return frozenset(_ON_THE_NODE)

    def heal(self, target: Target) -> None:
        """Wait until the node is ready, and the platform is complete."""
        node = target.worker_node()
        target.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=180s")
        for part in _ON_THE_NODE:
            await_pods(target, part)


@dataclass(frozen=True, kw_only=True)
class NodeKilled(OfTheNode):
    """The node loses power, and then starts again."""

    ends_pods: bool = True

    def inject(self, target: Target) -> None:
        """Kill the container of the node."""
        target.docker("kill", target.worker_node())

    def heal(self, target: Target) -> None:
        """Start the node at its old address."""
        KindProvider(target.cluster).create()
        super().heal(target)


@dataclass(frozen=True, kw_only=True)
class NodeFrozen(OfTheNode):
    """The node is frozen for some time, and then continues."""

    def inject(self, target: Target) -> None:
        """Freeze the container of the node, and wait until Kubernetes marks it as not ready."""
        node = target.worker_node()
        target.docker("pause", node)
        target.kubectl("wait", f"node/{node}", "--for=condition=Ready=Unknown", "--timeout=120s")

    def heal(self, target: Target) -> None:
        """Let the container of the node continue."""
        node = target.worker_node()
        if target.docker("inspect", "--format={{.State.Paused}}", node).strip() == "true":
            target.docker("unpause", node)
        super().heal(target)
