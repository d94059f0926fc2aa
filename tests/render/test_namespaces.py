"""Each namespace of an environment is declared, restricted, and denies traffic by default."""

from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from prefect_platform_cli.doctor import enforcement
from tests.render.components import pod_owners, pods_of
from tests.render.reachability import End, Network
from tests.support.rendering import (
    STORIES,
    Object,
    all_objects,
    external_secrets,
    find,
    namespaces,
    objects,
)

ENVIRONMENTS = ["local", "staging", "production"]
_DIRECTIONS = ("Ingress", "Egress")
_SOLVER = {"acme.cert-manager.io/http01-solver": "true"}  # the label of cert-manager's own pods
_PROBE = End("prefect", enforcement.COVERED)

each_environment = pytest.mark.parametrize("environment", ENVIRONMENTS)


def rendered(environment: str) -> list[Object]:
    """Return the objects of both releases, and of what an environment has beside them."""
    releases = [
        *objects(STORIES[f"server-{environment}"]),
        *objects(STORIES[f"worker-{environment}"]),
    ]
    if environment == "local":
        return releases + all_objects()["data-local"]
    return releases + external_secrets(environment)


def pods(environment: str) -> Iterator[End]:
    """Yield the pods of both releases, including one job pod for each work pool."""
    for component in ("server", "worker"):
        for owner in pod_owners(STORIES[f"{component}-{environment}"]):
            yield End(owner["metadata"]["namespace"], pods_of(owner)["metadata"]["labels"])


def policies(items: list[Object]) -> list[Object]:
    return [item for item in items if item["kind"] == "NetworkPolicy"]


def denies_by_default(policy: Object) -> bool:
    """Return whether a policy selects all pods of its namespace, in both directions."""
    spec = policy["spec"]
    return spec["podSelector"] == {} and set(spec["policyTypes"]) == set(_DIRECTIONS)


def selects(policy: Object, pod: End, direction: str) -> bool:
    """Return whether a policy with labels in its selector isolates a pod in a direction."""
    return (
        policy["metadata"]["namespace"] == pod.namespace
        and direction in policy["spec"]["policyTypes"]
        and policy["spec"]["podSelector"].get("matchLabels", {}).items() <= pod.labels.items()
    )


@each_environment
def test_each_namespace_in_use_is_declared_once_and_restricted(environment: str) -> None:
    items = [*namespaces(environment), *rendered(environment)]
    used = {item["metadata"]["namespace"] for item in items if "namespace" in item["metadata"]}
    used |= {pod.namespace for pod in pods(environment)}
    declared = [item["metadata"] for item in items if item["kind"] == "Namespace"]

    assert {"prefect", "prefect-workers", "flows-default"} <= used
    # Helm refuses to create a namespace that exists without its labels.
    assert Counter(each["name"] for each in declared) == Counter(used)
    for each, mode in product(declared, ("enforce", "audit", "warn")):
        assert each["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"


@each_environment
def test_each_namespace_denies_traffic_by_default_exactly_once(environment: str) -> None:
    items = [*namespaces(environment), *rendered(environment)]
    denying = [
        policy["metadata"]["namespace"] for policy in policies(items) if denies_by_default(policy)
    ]

    assert Counter(denying) == Counter(
        item["metadata"]["name"] for item in items if item["kind"] == "Namespace"
    )


@each_environment
def test_a_default_deny_has_no_rules(environment: str) -> None:
    for policy in policies(namespaces(environment)):
        if denies_by_default(policy):
            assert policy["spec"].keys() == {"podSelector", "policyTypes"}


@each_environment
def test_the_charts_already_isolate_each_of_their_pods_in_both_directions(environment: str) -> None:
    # Policies are additive, so a default deny takes no connection away from such a pod.
    of_releases = policies(rendered(environment))
    for pod, direction in product(pods(environment), _DIRECTIONS):
        assert any(selects(policy, pod, direction) for policy in of_releases), pod


def test_cloudnativepg_pods_are_isolated_in_both_directions() -> None:
    database = find(objects(STORIES["server-cloudnative-pg"]), "NetworkPolicy", "database")["spec"]

    assert database["podSelector"] == {
        "matchLabels": {"cnpg.io/cluster": "prefect-server-database"}
    }
    assert set(database["policyTypes"]) == set(_DIRECTIONS)


def test_only_the_ingress_controller_reaches_the_pods_that_answer_certificate_challenges() -> None:
    network = Network(policies(namespaces("production")), {})
    solver = End("prefect", _SOLVER)
    api = find(objects(STORIES["server-production"]), "NetworkPolicy", "api")["spec"]["ingress"]
    proxies = [peer for rule in api for peer in rule["from"] if "podSelector" in peer]
    controller = End(
        proxies[0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        proxies[0]["podSelector"]["matchLabels"],
    )

    assert len(proxies) == 1
    assert network.allows(controller, solver, 8089)
    assert not network.allows(controller, solver, 8080)
    assert not network.allows(End("default"), solver, 8089)
    assert not network.allows(solver, End(address="1.1.1.1"), 443)


def test_only_its_own_policy_opens_the_connection_that_the_enforcement_check_tries() -> None:
    denied = policies(namespaces("local"))
    opened = enforcement.policy("prefect", [{"podSelector": {"matchLabels": _PROBE.labels}}])
    closed = enforcement.policy("prefect", [])

    assert Network([*denied, opened], {}).allows(_PROBE, _PROBE, 8080)
    assert not Network([*denied, opened], {}).allows(End("prefect"), _PROBE, 8080)
    for others in (denied, []):
        assert not Network([*others, closed], {}).allows(_PROBE, _PROBE, 8080)
