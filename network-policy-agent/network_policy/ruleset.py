"""Compile NetworkPolicies to nftables: one transaction that replaces what a node enforces.

Each policy that selects a pod on the node becomes one chain for each direction that it isolates,
with one rule for each allowed pair of peer and port. Each isolated pod becomes one chain, which
tries the pod's policies and then drops the packet. The maps in base.nft lead from the pod's address
to its chain.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from ipaddress import IPv4Network, collapse_addresses
from typing import Any

from network_policy.label_selectors import matches
from network_policy.model import Cluster, Direction, Pod, Policy

TABLE = "inet network-policy"
_BASE = files(__package__).joinpath("base.nft")
_LONGEST_NAME = 120  # characters, well below the limit of nftables
_PEER: dict[Direction, str] = {"egress": "ip daddr", "ingress": "ip saddr"}


def ruleset(cluster: Cluster, node: str) -> str:
    """Return the input of `nft --file -` that puts every policy of `cluster` in force on `node`."""
    local = [pod for pod in cluster.pods if pod.node == node]
    lines = [_BASE.read_text()]
    for direction in _PEER:
        lines += _direction(cluster, local, direction)
    lines += _elements("known", (str(pod.address) for pod in local))
    return "\n".join(lines) + "\n"


def _direction(cluster: Cluster, local: list[Pod], direction: Direction) -> Iterator[str]:
    policies = {
        _name(direction, "policy", policy.namespace, policy.name): policy
        for policy in cluster.policies
        if direction in policy.rules and any(_selects(policy, pod) for pod in local)
    }
    for chain, policy in policies.items():
        yield from _chain(chain, _allowed(cluster, policy, direction))
    isolated = []
    for pod in local:
        jumps = [f"jump {chain}" for chain, policy in policies.items() if _selects(policy, pod)]
        if jumps:
            chain = _name(direction, "pod", pod.namespace, pod.name)
            itself = f"{_PEER[direction]} {pod.address} accept"  # no policy can forbid this
            yield from _chain(chain, [itself, *jumps, "counter drop"])
            isolated.append(f"{pod.address} : goto {chain}")
    yield from _elements(direction, isolated)


def _allowed(cluster: Cluster, policy: Policy, direction: Direction) -> Iterator[str]:
    """Yield the rules of a policy; a rule without peers or ports allows all of them."""
    peers_key = "to" if direction == "egress" else "from"
    for rule in policy.rules[direction]:
        peers = rule.get(peers_key) or []
        ports = rule.get("ports") or []
        from_peers = [_peer(cluster, policy, peer, direction) for peer in peers] if peers else [""]
        on_ports = [_port(cluster, port) for port in ports] if ports else [""]
        for peer in from_peers:
            for port in on_ports:
                if peer is not None and port is not None:
                    yield " ".join(filter(None, (peer, port, "accept")))


def _peer(
    cluster: Cluster, policy: Policy, peer: Mapping[str, Any], direction: Direction
) -> str | None:
    """Return the match for one peer, or None if it selects no address."""
    field = _PEER[direction]
    if "ipBlock" in peer:
        return _block(field, peer["ipBlock"])
    if "namespaceSelector" in peer:
        selector = peer["namespaceSelector"]
        namespaces = {
            name for name, labels in cluster.namespaces.items() if matches(selector, labels)
        }
    else:
        namespaces = {policy.namespace}
    pods = [
        str(pod.address)
        for pod in cluster.pods
        if pod.namespace in namespaces and matches(peer.get("podSelector") or {}, pod.labels)
    ]
    return f"{field} {_set(pods)}" if pods else None


def _block(field: str, block: Mapping[str, Any]) -> str | None:
    if ":" in block["cidr"]:  # IPv6: pods have only IPv4 addresses
        return None
    network = _network(block["cidr"])
    # nftables refuses a set with overlapping ranges.
    but = _set(map(str, collapse_addresses(map(_network, block.get("except") or ()))))
    return f"{field} {network}" + (f" {field} != {but}" if but else "")


def _network(cidr: str) -> IPv4Network:
    return IPv4Network(cidr, strict=False)


def _port(cluster: Cluster, port: Mapping[str, Any]) -> str | None:
    """Return the match for one port, or None if no pod has a port of that name."""
    protocol, number = port.get("protocol", "TCP").lower(), port.get("port")
    if number is None:
        return f"meta l4proto {protocol}"
    if isinstance(number, int):
        last = port.get("endPort", number)
        return f"{protocol} dport {number}" + (f"-{last}" if last != number else "")
    # In both directions, a name refers to a port of the pod that receives the packet.
    named = [
        f"{pod.address} . {each.number}"
        for pod in cluster.pods
        for each in pod.ports
        if (each.name, each.protocol) == (number, protocol)
    ]
    return f"ip daddr . {protocol} dport {_set(named)}" if named else None


def _selects(policy: Policy, pod: Pod) -> bool:
    return policy.namespace == pod.namespace and matches(policy.selector, pod.labels)


def _name(*parts: str) -> str:
    """Return the parts as the name of a chain; a checksum replaces the end of a name too long."""
    name = "/".join(parts)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: _LONGEST_NAME - len(digest) - 1]}.{digest}"


def _chain(name: str, rules: Iterable[str]) -> list[str]:
    return [
        f"add chain {TABLE} {name}",
        *(f"add rule {TABLE} {name} {rule}" for rule in rules),
    ]


def _elements(name: str, elements: Iterable[str]) -> list[str]:
    written = _set(elements)
    return [f"add element {TABLE} {name} {written}"] if written else []


def _set(elements: Iterable[str]) -> str:
    """Return an nftables set without duplicates, or an empty string if it has no elements."""
    distinct = sorted(set(elements))
    return f"{{ {', '.join(distinct)} }}" if distinct else ""
