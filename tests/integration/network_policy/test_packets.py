"""What compiled policies allow, tested with TCP and UDP packets in both directions."""

from typing import Any

import pytest

from network_policy.ruleset import TABLE
from tests.integration.network_policy.network import NODE, OUTSIDE, PORTS, Network, ip

_FROM_NODE = {f"{NODE} {port}" for port in PORTS}
_EVERYWHERE = ("client", "other", "stranger", OUTSIDE)


def _policy(pod: str = "server", **spec: object) -> dict[str, Any]:
    return {
        "metadata": {"name": "tried", "namespace": "home"},
        "spec": {"podSelector": {"matchLabels": {"name": pod}}, **spec},
    }


def _named(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"name": name}}}


def _all_of(*places: str) -> set[str]:
    return {f"{place} {port}" for place in places for port in PORTS}


_INGRESS: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "no rules": ([], set()),
    "an empty rule": ([{}], _all_of(*_EVERYWHERE)),
    "a pod by label": ([{"from": [_named("client")]}], _all_of("client")),
    "all pods of the namespace": ([{"from": [{"podSelector": {}}]}], _all_of("client", "other")),
    "all pods of every namespace": (
        [{"from": [{"namespaceSelector": {}}]}],
        _all_of("client", "other", "stranger"),
    ),
    "a namespace by label": (
        [{"from": [{"namespaceSelector": {"matchLabels": {"kind": "away"}}}]}],
        _all_of("stranger"),
    ),
    "a pod by expression in every namespace": (
        [
            {
                "from": [
                    {
                        "namespaceSelector": {},
                        "podSelector": {
                            "matchExpressions": [
                                {"key": "name", "operator": "NotIn", "values": ["client"]}
                            ]
                        },
                    }
                ]
            }
        ],
        _all_of("other", "stranger"),
    ),
    "a port": ([{"ports": [{"port": 81}]}], {f"{each} tcp/81" for each in _EVERYWHERE}),
    "a port of UDP": (
        [{"ports": [{"port": 80, "protocol": "UDP"}]}],
        {f"{each} udp/80" for each in _EVERYWHERE},
    ),
    "a port of SCTP": ([{"ports": [{"port": 80, "protocol": "SCTP"}]}], set()),
    "a protocol": (
        [{"from": [_named("client")], "ports": [{"protocol": "UDP"}]}],
        {"client udp/80", "client udp/81"},
    ),
    "a range of ports": (
        [{"from": [_named("client")], "ports": [{"port": 81, "endPort": 90}]}],
        {"client tcp/81", "client tcp/85"},
    ),
    "a port by name": (
        [{"from": [_named("client")], "ports": [{"port": "web"}]}],
        {"client tcp/80"},
    ),
    "a name that nobody has": ([{"ports": [{"port": "none"}]}], set()),
    "a block but for a part": (
        [
            {
                "from": [
                    {
                        "ipBlock": {
                            "cidr": "198.18.1.0/24",
                            "except": ["198.18.1.11/32", "198.18.1.8/29"],
                        }
                    }
                ]
            }
        ],
        set(),
    ),
    "the world but for a part": (
        [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["198.18.1.12/30"]}}]}],
        _all_of("client", OUTSIDE),
    ),
    "one rule or the other": (
        [{"from": [_named("client")], "ports": [{"port": 80}]}, {"from": [_named("other")]}],
        {"client tcp/80", *_all_of("other")},
    ),
}
_EGRESS: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "no rules": ([], set()),
    "an empty rule": ([{}], _all_of("server", "other", "stranger", NODE, OUTSIDE)),
    "a pod by label": ([{"to": [_named("server")]}], _all_of("server")),
    "a port by name, as each pod calls it": (
        [{"ports": [{"port": "web"}]}],
        {"server tcp/80", "other tcp/81", "stranger tcp/80"},
    ),
    "the node by its address": (
        [{"to": [{"ipBlock": {"cidr": "198.18.2.1/32"}}], "ports": [{"port": 80}]}],
        {f"{NODE} tcp/80"},
    ),
    "a block of IPv6": ([{"to": [{"ipBlock": {"cidr": "::/0"}}]}], set()),
}


@pytest.mark.parametrize("allowed", _INGRESS)
def test_a_pod_is_reached_only_by_its_node_and_by_what_its_ingress_rules_allow(
    net: Network, allowed: str
) -> None:
    rules, reached = _INGRESS[allowed]

    net.enforce(_policy(ingress=rules))

    assert net.reaching("server") == _FROM_NODE | reached
    assert net.reachable_from("server") == _all_of("client", "other", "stranger", NODE, OUTSIDE)
    assert net.reaching("other") == _FROM_NODE | _all_of("server", "client", "stranger", OUTSIDE)


@pytest.mark.parametrize("allowed", _EGRESS)
def test_a_pod_reaches_only_what_its_egress_rules_allow(net: Network, allowed: str) -> None:
    rules, reached = _EGRESS[allowed]

    net.enforce(_policy("client", policyTypes=["Egress"], egress=rules))

    assert net.reachable_from("client") == reached
    assert net.reaching("client") == _FROM_NODE | _all_of("server", "other", "stranger", OUTSIDE)


def test_policies_are_additive_and_both_ends_must_allow_a_connection(net: Network) -> None:
    web = _policy(ingress=[{"ports": [{"port": 80}]}])
    debugging = _policy(ingress=[{"from": [_named("client")], "ports": [{"port": 85}]}])
    debugging["metadata"]["name"] = "debugging"
    careful = _policy("client", policyTypes=["Egress"], egress=[{"ports": [{"port": 85}]}])
    careful["metadata"]["name"] = "careful"

    net.enforce(web, debugging, careful)

    others = {f"{each} tcp/80" for each in ("other", "stranger", OUTSIDE)}
    assert net.reaching("server") == _FROM_NODE | {"client tcp/85"} | others


def test_a_pod_reaches_itself_even_if_its_policy_allows_nothing(net: Network) -> None:
    net.enforce(_policy(policyTypes=["Ingress", "Egress"]))

    assert net.reaches_itself("server")


def test_a_policy_selects_no_pods_of_another_namespace(net: Network) -> None:
    away = _policy(ingress=[])
    away["metadata"]["namespace"] = "away"

    net.enforce(away)

    assert net.reaching("server") == _FROM_NODE | _all_of(*_EVERYWHERE)


def test_an_unknown_pod_reaches_nothing_and_is_reached_only_by_its_node(
    net: Network,
) -> None:
    net.enforce(unknown=["server"])

    assert net.reaching("server") == _FROM_NODE
    assert net.reachable_from("server") == set()


def test_a_datagram_with_the_source_address_of_another_pod_is_dropped(net: Network) -> None:
    net.enforce()
    namespace = f"{net.prefix}stranger"
    net.heard("server", "client")
    ip(namespace, "address add 198.18.1.11/32 dev lo")
    try:
        ip(namespace, "route replace default via 198.18.1.1 src 198.18.1.11")
        net.reachable_from("stranger")
    finally:
        ip(namespace, "route replace default via 198.18.1.1 src 198.18.1.13")
        ip(namespace, "address delete 198.18.1.11/32 dev lo")

    assert not net.heard("server", "client")


def test_a_new_policy_keeps_open_connections_and_refuses_new_ones(net: Network) -> None:
    net.enforce()
    net.hold("client", "server")

    net.enforce(_policy(ingress=[]))

    assert net.held_works("client")
    assert net.reaching("server") == _FROM_NODE


def test_the_old_rules_stay_in_force_when_nftables_refuses_new_ones(net: Network) -> None:
    net.enforce(_policy(ingress=[]))

    with pytest.raises(AssertionError, match="syntax error"):
        net.nft(f"delete table {TABLE}\nnonsense")

    assert net.reaching("server") == _FROM_NODE
