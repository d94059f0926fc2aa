"""Connections that rendered NetworkPolicies allow, by the rules of Kubernetes."""

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tests.support.rendering import Object

Labels = Mapping[str, str]


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or an `address` outside of all pods."""

    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)  # of the pod's containers, by name
    address: str = ""


class Network:
    """A cluster network with its NetworkPolicies, and the labels of its namespaces by name."""

    def __init__(self, policies: Collection[Object], namespaces: Mapping[str, Labels]) -> None:
        self._policies = policies
        self.namespaces = namespaces

    def allows(self, source: End, target: End, port: int) -> bool:
        """Return whether the policies of both ends allow a TCP connection."""
        return self._allows_at("Egress", source, target, target, port) and self._allows_at(
            "Ingress", target, source, target, port
        )

    def _allows_at(self, direction: str, pod: End, peer: End, target: End, port: int) -> bool:
        if pod.address:
            return True
        selecting = [
            policy
            for policy in self._policies
            if policy["metadata"]["namespace"] == pod.namespace
            and direction in policy["spec"]["policyTypes"]
            and _selects(policy["spec"]["podSelector"], pod.labels)
        ]
        key, peers_key = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        return not selecting or any(
            self._any_peer_matches(rule.get(peers_key), peer, pod.namespace)
            and _include_port(rule.get("ports"), target, port)
            for policy in selecting
            for rule in policy["spec"].get(key, [])
        )

    def _any_peer_matches(self, peers: list[Object] | None, end: End, own_namespace: str) -> bool:
        return not peers or any(self._peer_matches(peer, end, own_namespace) for peer in peers)

    def _peer_matches(self, peer: Object, end: End, own_namespace: str) -> bool:
        if block := peer.get("ipBlock"):
            return bool(end.address) and _block_contains(block, end.address)
        if end.address:
            return False
        if selector := peer.get("namespaceSelector"):
            named = {
                "kubernetes.io/metadata.name": end.namespace,
                **self.namespaces.get(end.namespace, {}),
            }
            here = _selects(selector, named)
        else:
            here = end.namespace == own_namespace
        return here and _selects(peer.get("podSelector", {}), end.labels)


def _selects(selector: Object, labels: Labels) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    wanted = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions), (
        "only the operator In is supported"
    )
    return wanted.items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def _include_port(ports: list[Object] | None, target: End, port: int) -> bool:
    return not ports or any(
        target.ports.get(each["port"], each["port"]) == port
        and each.get("protocol", "TCP") == "TCP"
        for each in ports
    )


def _block_contains(block: Object, address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found in ipaddress.ip_network(block["cidr"]) and not any(
        found in ipaddress.ip_network(hole) for hole in block.get("except", [])
    )
