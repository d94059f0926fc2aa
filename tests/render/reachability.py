"""What rendered NetworkPolicies let through, by the rules of Kubernetes."""

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tests.support.rendering import Object

Labels = Mapping[str, str]


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or with an `address` something outside of all pods."""

    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)  # of the pod's containers, by name
    address: str = ""


class Network:
    """A network with these policies and namespaces, which have their name as a label."""

    def __init__(self, policies: Collection[Object], namespaces: Mapping[str, Labels]) -> None:
        self._policies = policies
        self.namespaces = namespaces

    def lets(self, source: End, target: End, port: int) -> bool:
        """Return whether a TCP connection passes the policies of both ends."""
        return self._side("Egress", source, target, target, port) and self._side(
            "Ingress", target, source, target, port
        )

    def _side(self, direction: str, bound: End, peer: End, target: End, port: int) -> bool:
        if bound.address:
            return True
        binding = [
            policy
            for policy in self._policies
            if policy["metadata"]["namespace"] == bound.namespace
            and direction in policy["spec"]["policyTypes"]
            and _selects(policy["spec"]["podSelector"], bound.labels)
        ]
        key, whom = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        return not binding or any(
            self._names(rule.get(whom), peer, bound.namespace)
            and _opens(rule.get("ports"), target, port)
            for policy in binding
            for rule in policy["spec"].get(key, [])
        )

    def _names(self, peers: list[Object] | None, end: End, own: str) -> bool:
        return not peers or any(self._is(peer, end, own) for peer in peers)

    def _is(self, peer: Object, end: End, own: str) -> bool:
        if block := peer.get("ipBlock"):
            return bool(end.address) and _within(block, end.address)
        if end.address:
            return False
        if spaces := peer.get("namespaceSelector"):
            named = {
                "kubernetes.io/metadata.name": end.namespace,
                **self.namespaces.get(end.namespace, {}),
            }
            here = _selects(spaces, named)
        else:
            here = end.namespace == own
        return here and _selects(peer.get("podSelector", {}), end.labels)


def _selects(selector: Object, labels: Labels) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    wanted = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions), "no chart uses another"
    return wanted.items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def _opens(ports: list[Object] | None, target: End, port: int) -> bool:
    return not ports or any(
        target.ports.get(each["port"], each["port"]) == port
        and each.get("protocol", "TCP") == "TCP"
        for each in ports
    )


def _within(block: Object, address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found in ipaddress.ip_network(block["cidr"]) and not any(
        found in ipaddress.ip_network(hole) for hole in block.get("except", [])
    )
