"""The state of the cluster, as reported by the API and the CNI plugin."""

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from network_policy.announcements import Announcement
from network_policy.model import Cluster, owners, pod, policy
from network_policy.watch import Change, Changed, Deleted, Listed

PODS = "/api/v1/pods"
NAMESPACES = "/api/v1/namespaces"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
WATCHED = (PODS, NAMESPACES, POLICIES)


class View:
    """The objects at each path in `WATCHED`, and addresses that the API does not report yet."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._announced: dict[str, IPv4Address] = {}

    def complete(self) -> bool:
        """Return whether all kinds are listed; until then, pods could be open without policies."""
        return len(self._objects) == len(WATCHED)

    def knows(self, uid: str) -> bool:
        """Return whether the API has reported the pod."""
        return uid in self._objects[PODS]

    def announce(self, announcement: Announcement) -> None:
        """Record the address of a new pod."""
        self._announced[announcement.uid] = announcement.address

    def take(self, path: str, change: Change) -> None:
        """Record a change that the API reports for the objects at `path`."""
        match change:
            case Listed(items):
                self._objects[path] = {_uid(item): item for item in items}
            case Changed(item):
                self._objects[path][_uid(item)] = item
            case Deleted(item):
                self._objects[path].pop(_uid(item), None)
                self._announced.pop(_uid(item), None)

    def cluster(self) -> Cluster:
        """Return the state that policies depend on."""
        pods = [each for item in self._objects[PODS].values() if (each := pod(item))]
        for each in pods:
            # The API is up to date now, and will report another address if the pod restarts.
            if self._announced.get(each.uid) == each.address:
                self._announced.pop(each.uid, None)
        return Cluster(
            pods=owners(pods, self._announced),
            namespaces={
                item["metadata"]["name"]: item["metadata"].get("labels", {})
                for item in self._objects[NAMESPACES].values()
            },
            policies=[policy(item) for item in self._objects[POLICIES].values()],
        )


def _uid(item: Mapping[str, Any]) -> str:
    return str(item["metadata"]["uid"])
