"""The agent's state and rules, given the API's objects and the addresses of new pods."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from network_policy.announcements import Announcement
from network_policy.model import policy
from network_policy.ruleset import ruleset
from network_policy.view import NAMESPACES, PODS, POLICIES, View
from network_policy.watch import Changed, Deleted, Listed

_NODE = "node"


def _pod(
    name: str = "web", address: str | None = "198.18.1.2", created: str = "1", **spec: object
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "home",
            "uid": f"uid of {name}",
            "creationTimestamp": created,
        },
        "spec": {"nodeName": _NODE, "containers": [{}], **spec},
        "status": {"phase": "Running", "podIPs": [{"ip": address}] if address else []},
    }


def _view(*pods: dict[str, Any]) -> View:
    view = View()
    view.take(PODS, Listed(list(pods)))
    view.take(NAMESPACES, Listed([{"metadata": {"name": "home", "uid": "home"}}]))
    view.take(POLICIES, Listed([]))
    return view


def _addresses(view: View) -> dict[str, str]:
    return {pod.name: str(pod.address) for pod in view.cluster().pods}


def test_the_view_is_complete_only_when_all_kinds_are_listed() -> None:
    view = View()
    complete = []
    for path in (PODS, NAMESPACES, POLICIES):
        complete.append(view.complete())
        view.take(path, Listed([]))

    assert [*complete, view.complete()] == [False, False, False, True]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_has_no_address(phase: str) -> None:
    finished = _pod()
    finished["status"]["phase"] = phase

    assert _addresses(_view(finished)) == {}


def test_a_pod_with_host_network_is_neither_isolated_nor_a_peer() -> None:
    assert _addresses(_view(_pod(hostNetwork=True))) == {}


def test_an_announced_address_applies_until_the_api_reports_it() -> None:
    view = _view(_pod(address=None))
    assert _addresses(view) == {}

    view.announce(Announcement("uid of web", IPv4Address("198.18.1.9")))
    assert _addresses(view) == {"web": "198.18.1.9"}
    view.take(PODS, Changed(_pod(address="198.18.1.9")))
    assert _addresses(view) == {"web": "198.18.1.9"}
    view.take(PODS, Changed(_pod(address="198.18.1.10")))
    assert _addresses(view) == {"web": "198.18.1.10"}


def test_an_announcement_overrides_the_address_from_before_a_restart() -> None:
    view = _view(_pod(address="198.18.1.2"))

    view.announce(Announcement("uid of web", IPv4Address("198.18.1.9")))

    assert _addresses(view) == {"web": "198.18.1.9"}


def test_an_address_that_two_pods_have_belongs_to_the_newer_one() -> None:
    view = _view(_pod("newer", created="2026-01-02"), _pod("older", created="2026-01-01"))

    assert _addresses(view) == {"newer": "198.18.1.2"}


def test_a_deleted_pod_is_forgotten() -> None:
    view = _view(_pod())

    view.take(PODS, Deleted(_pod()))

    assert not view.knows("uid of web")
    assert _addresses(view) == {}


@pytest.mark.parametrize(
    ("spec", "isolated"),
    [
        ({}, {"ingress"}),
        ({"ingress": [{}]}, {"ingress"}),
        ({"egress": []}, {"ingress"}),
        ({"egress": [{}]}, {"ingress", "egress"}),
        ({"policyTypes": ["Egress"]}, {"egress"}),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, {"ingress"}),
        ({"policyTypes": ["Ingress", "Egress"]}, {"ingress", "egress"}),
    ],
)
def test_a_policy_isolates_the_directions_in_its_policy_types_or_their_defaults(
    spec: dict[str, Any], isolated: set[str]
) -> None:
    item = {"metadata": {"name": "tried", "namespace": "home"}, "spec": spec}

    assert policy(item).rules.keys() == isolated


def test_the_rules_do_not_depend_on_the_order_of_the_pods() -> None:
    pods = [_pod(f"web-{number}", f"198.18.1.{number}") for number in range(2, 6)]
    allow_all = {
        "metadata": {"name": "all", "namespace": "home", "uid": "all"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]},
    }
    views = [_view(*pods), _view(*reversed(pods))]
    for view in views:
        view.take(POLICIES, Listed([allow_all]))

    first, second = (sorted(ruleset(view.cluster(), _NODE).splitlines()) for view in views)

    assert first == second


def test_only_pods_on_the_node_are_opened() -> None:
    view = _view(_pod("here", "198.18.1.2"), _pod("there", "198.18.1.3", nodeName="another"))

    rules = ruleset(view.cluster(), _NODE)

    assert "known { 198.18.1.2 }" in rules
    assert "198.18.1.3" not in rules


def test_names_that_are_shortened_for_a_chain_remain_distinct() -> None:
    view = _view(_pod())
    items = [
        {
            "metadata": {"name": "x" * 250 + end, "namespace": "home", "uid": end},
            "spec": {"podSelector": {}},
        }
        for end in ("a", "b")
    ]
    view.take(POLICIES, Listed(items))

    chains = {
        line for line in ruleset(view.cluster(), _NODE).splitlines() if line.startswith("add chain")
    }

    assert len(chains) == 3
    assert all(len(line.split()[-1]) <= 128 for line in chains)
