"""What the pods of a flow run say about its container."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from kubernetes_asyncio.client import V1Pod

_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Pod:
    """A pod that has not ended, according to Kubernetes.

    `started` is whether its container runs. `cut_off` is the time since which its node has not been
    ready, or since which the pod should have ended; None while the node reports to Kubernetes.
    `deleted` is whether it is the latter time.
    """

    namespace: str
    name: str
    node: str
    started: bool
    cut_off: datetime | None
    deleted: bool

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def loss(self) -> str:
        """Return what is known of a pod that is lost."""
        since = f"{self.cut_off:%Y-%m-%dT%H:%M:%SZ}"
        if self.deleted:
            return (
                f"The pod {self} was deleted and should have ended at {since}, which its node "
                f"{self.node} has not confirmed"
            )
        return f"The node {self.node} of the pod {self} has not been ready since {since}"

    def is_lost(self, now: datetime, lost_node: timedelta) -> bool:
        """Return whether the node has not been ready for the period `lost_node`."""
        return self.cut_off is not None and now - self.cut_off >= lost_node


def living(items: list[V1Pod]) -> list[Pod]:
    """Return the pods that have not ended; a deleted one ends when its kubelet says so."""
    return [
        Pod(
            namespace=item.metadata.namespace,
            name=item.metadata.name,
            node=item.spec.node_name or "",
            started=_started(item),
            cut_off=_cut_off(item),
            deleted=_cut_off(item) == item.metadata.deletion_timestamp,
        )
        for item in items
        if item.status.phase not in _ENDED
    ]


def _started(item: V1Pod) -> bool:
    return any(
        each.state is not None and each.state.running is not None
        for each in item.status.container_statuses or []
    )


def _cut_off(item: V1Pod) -> datetime | None:
    """Return since when the node of a pod has not been ready.

    Kubernetes then sets the condition Ready of each running pod to False, and ContainersReady stays
    as the kubelet last reported it. So the reaper needs no permission to read nodes. Later it
    deletes the pods of the node, which stay until the kubelet confirms that they have ended.
    """
    deleted: datetime | None = item.metadata.deletion_timestamp  # includes the grace period
    conditions = {each.type: each for each in item.status.conditions or []}
    ready, containers = conditions.get("Ready"), conditions.get("ContainersReady")
    if ready is None or containers is None or not _started(item):
        return deleted
    if ready.status == "False" and containers.status == "True":
        since: datetime = ready.last_transition_time
        return since
    return deleted
