"""NetworkPolicies allow only declared connections to and from each pod."""

import pytest

from tests.support.rendering import STORIES, Object, objects

DNS = {53}


def policies(story: str, values: dict[str, object] | None = None) -> dict[str, Object]:
    """Return the specs of a story's policies by component."""
    return {
        item["metadata"]["labels"]["app.kubernetes.io/component"]: item["spec"]
        for item in objects(STORIES[story].with_values(values or {}))
        if item["kind"] == "NetworkPolicy"
    }


def ports(rules: list[Object]) -> set[object]:
    """Return all ports that rules allow."""
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_the_database_accepts_only_server_components_and_opens_no_connections() -> None:
    database = policies("server")["database"]
    (rule,) = database["ingress"]
    components = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]
    }

    assert components == {"api", "migrations", "retention"}
    assert not any("namespaceSelector" in peer for peer in rule["from"])
    assert "egress" not in database


@pytest.mark.parametrize(
    ("story", "part", "clients"),
    [
        ("server-external-host", "database", ["api", "migrations", "retention"]),
        ("server-ha-external", "database", ["api", "services", "migrations", "retention"]),
        ("server-ha-external", "redis", ["api", "services"]),
    ],
)
def test_external_services_are_reached_at_their_configured_address(
    story: str, part: str, clients: list[str]
) -> None:
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"port": 6432}]}
    named = policies(story, {f"networkPolicies.external{part.capitalize()}": rule})

    assert part not in named
    for component in clients:
        (found,) = [each for each in named[component]["egress"] if 6432 in ports([each])]
        assert found["to"] == rule["to"]


def test_cloudnativepg_instances_accept_clients_each_other_and_the_operator() -> None:
    database = policies("server-cloudnative-pg")["database"]
    clients, cluster = database["ingress"]
    instances = {"matchLabels": {"cnpg.io/cluster": "prefect-server-database"}}

    assert database["podSelector"] == instances
    assert {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for peer in clients["from"]
    } == {"api", "services", "migrations", "retention"}
    assert ports([clients]) == {5432}
    assert [peer["podSelector"] for peer in cluster["from"]] == [
        instances,
        {"matchLabels": {"app.kubernetes.io/name": "cloudnative-pg"}},
    ]
    assert ports([cluster]) == {5432, 8000}
    assert ports(database["egress"]) == DNS | {5432, 8000} | {443, 6443}
    for component in ("api", "services", "migrations", "retention"):
        (rule,) = [
            each
            for each in policies("server-cloudnative-pg")[component]["egress"]
            if ports([each]) == {5432}
        ]
        assert rule["to"] == [{"podSelector": instances}]


def test_redis_accepts_only_api_and_services_and_opens_no_connections() -> None:
    redis = policies("server-ha")["redis"]
    (rule,) = redis["ingress"]

    assert {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]
    } == {"api", "services"}
    assert "egress" not in redis
    assert "redis" not in ports(policies("server-ha")["migrations"]["egress"])


def test_the_api_accepts_only_the_configured_clients() -> None:
    (rule,) = policies("server")["api"]["ingress"]
    (peer,) = rule["from"]

    assert peer["namespaceSelector"]["matchExpressions"][0]["values"] == [
        "prefect-workers",
        "flows-default",
    ]
    assert ports([rule]) == {"http"}


def test_the_api_also_accepts_a_configured_proxy() -> None:
    (rule,) = policies("server-ingress")["api"]["ingress"]
    clients, proxy = rule["from"]

    assert "flows-default" in clients["namespaceSelector"]["matchExpressions"][0]["values"]
    assert proxy["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "ingress-nginx"
    }


@pytest.mark.parametrize(
    "component", ["api", "services", "migrations", "retention", "database", "redis"]
)
def test_a_single_policy_can_be_disabled(component: str) -> None:
    key = "backgroundServices" if component == "services" else component
    switched = policies("server-ha", {f"networkPolicies.components.{key}": False})

    assert set(policies("server-ha")) - set(switched) == {component}


@pytest.mark.parametrize(
    ("story", "data"), [("worker", set()), ("worker-local", {8333, 5432, 6379})]
)
def test_a_job_pod_accepts_no_connections_and_reaches_only_configured_targets(
    story: str, data: set[int]
) -> None:
    jobs = policies(story)["flow-run"]

    assert jobs["podSelector"] == {}
    assert "ingress" not in jobs
    assert ports(jobs["egress"]) == DNS | {4200} | data
    assert all(rule["to"] for rule in jobs["egress"])


@pytest.mark.parametrize("component", ["worker", "reaper"])
def test_worker_and_reaper_reach_the_api_and_the_kubernetes_api(component: str) -> None:
    assert ports(policies("worker")[component]["egress"]) == DNS | {4200, 443, 6443}


@pytest.mark.parametrize("story", ["server", "worker"])
def test_all_policies_can_be_disabled(story: str) -> None:
    assert policies(story, {"networkPolicies.enabled": False}) == {}
