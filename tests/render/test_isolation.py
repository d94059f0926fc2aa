"""The charts' NetworkPolicies allow exactly the connections in the isolation table."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_platform_cli.doctor.isolation import Origin, Target, allowed
from tests.render.reachability import End, Network
from tests.support.rendering import (
    STORIES,
    Object,
    all_objects,
    containers,
    namespaces,
    objects,
    pod_of,
)

_STRANGER = End("default", {"app.kubernetes.io/name": "stranger"})
_DNS = End("kube-system", {"k8s-app": "kube-dns"})
_KUBERNETES = "10.96.0.1"  # the address that these stories set
_KUBERNETES_API = {
    "networkPolicies.kubernetesApi.to": [{"ipBlock": {"cidr": f"{_KUBERNETES}/32"}}],
}
_DATA_SERVICES = {Target.OBJECT_STORE, Target.WAREHOUSE, Target.LOCKS}
_JOBS = {"app.kubernetes.io/component": "flow-run"}


@dataclass(frozen=True)
class Installation:
    """Stories that are installed together."""

    server: str
    worker: str
    clients: tuple[str, ...] = ()  # additional namespaces with clients of the API
    local: bool = False


INSTALLATIONS = {
    "local": Installation("server-local", "worker-local", local=True),
    "ha": Installation("server-ha", "worker-pools", ("flows-etl",)),
    "staging": Installation("server-staging", "worker-staging"),
    "production": Installation("server-production", "worker-production"),
}


@cache
def installed(name: str) -> tuple[Network, tuple[Object, ...]]:
    """Return the network of an installation, and all of its objects."""
    chosen = INSTALLATIONS[name]
    clients = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        for namespace in ("prefect-workers", "flows-default", *chosen.clients)
    ]
    server = {"networkPolicies.apiClients": clients} if chosen.clients else {}
    found = objects(STORIES[chosen.server].with_values({**server, **_KUBERNETES_API}))
    found += objects(STORIES[chosen.worker].with_values(_KUBERNETES_API))
    if chosen.local:
        found += all_objects()["data-local"]
    labels = {
        item["metadata"]["name"]: item["metadata"]["labels"]
        for item in [*found, *namespaces("local")]
        if item["kind"] == "Namespace"
    }
    policies = [item for item in found if item["kind"] == "NetworkPolicy"]
    return Network(policies, labels), tuple(found)


def ends(name: str, component: str) -> Iterator[End]:
    """Yield the pods of a component in an installation."""
    for item in installed(name)[1]:
        pod = pod_of(item)
        if pod and pod["metadata"]["labels"].get("app.kubernetes.io/component") == component:
            ports = {
                port["name"]: port["containerPort"]
                for container in containers(pod["spec"])
                for port in container.get("ports", [])
            }
            yield End(item["metadata"]["namespace"], pod["metadata"]["labels"], ports)


def job_pods(name: str) -> list[End]:
    accounts = [item for item in installed(name)[1] if item["kind"] == "ServiceAccount"]
    return [
        End(item["metadata"]["namespace"], _JOBS)
        for item in accounts
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == "flow-run"
    ]


def sources(name: str) -> dict[Origin, list[End]]:
    return {
        Origin.JOB: job_pods(name),
        Origin.WORKER: list(ends(name, "worker")),
        Origin.API: list(ends(name, "api")),
        Origin.SERVICES: list(ends(name, "services")),
        Origin.STRANGER: [_STRANGER],
    }


def targets(name: str) -> dict[Target, list[tuple[End, int]]]:
    """Return the addresses and ports of each target: none if it is not installed."""
    return {
        Target.API: [(end, 4200) for end in ends(name, "api")],
        Target.DATABASE: [(end, 5432) for end in ends(name, "database")],
        Target.REDIS: [(end, 6379) for end in ends(name, "redis")],
        Target.OBJECT_STORE: [(end, 8333) for end in ends(name, "object-store")],
        Target.WAREHOUSE: [(end, 5432) for end in ends(name, "warehouse")],
        Target.LOCKS: [(end, 6379) for end in ends(name, "result-locks")],
        Target.KUBERNETES: [(End(address=_KUBERNETES), 443)],
        Target.METADATA: [(End(address="169.254.169.254"), 80)],
        Target.DNS: [(_DNS, 53)],
        Target.JOB: [(end, 8080) for end in job_pods(name)],
        Target.WORLD: [(End(address="1.1.1.1"), 443)],
    }


def violations(name: str, network: Network) -> list[str]:
    """Return each connection for which the network and the table disagree."""
    return [
        f"{source} in {start.namespace} to {target} at {port}"
        for source, pods in sources(name).items()
        for start in pods
        for target, places in targets(name).items()
        for place, port in places
        if network.allows(start, place, port) != allowed(source, target)
    ]


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_the_policies_allow_exactly_the_connections_in_the_table(name: str) -> None:
    assert violations(name, installed(name)[0]) == []


@pytest.mark.parametrize(
    "component",
    [
        "api",
        "services",
        "database",
        "redis",
        "worker",
        "flow-run",
        "object-store",
        "warehouse",
        "result-locks",
    ],
)
def test_the_table_is_violated_without_the_policy_of_a_component(component: str) -> None:
    name = "ha" if component in {"services", "redis"} else "local"
    left = [
        item
        for item in installed(name)[1]
        if item["kind"] == "NetworkPolicy"
        and component
        not in {
            item["metadata"]["labels"].get("app.kubernetes.io/component"),
            item["metadata"]["name"],
        }
    ]

    assert violations(name, Network(left, installed(name)[0].namespaces))


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_each_installation_has_the_expected_origins_and_targets(name: str) -> None:
    has = {target for target, places in targets(name).items() if places}
    lacks = {
        "local": {Target.REDIS},
        "ha": _DATA_SERVICES,
        "staging": _DATA_SERVICES,
        "production": {Target.DATABASE, Target.REDIS, *_DATA_SERVICES},
    }

    assert set(Target) - has == lacks[name]
    assert {source for source, pods in sources(name).items() if not pods} == (
        {Origin.SERVICES} if name == "local" else set()
    )


@pytest.mark.parametrize("port", [80, 8080, 6443])
def test_the_server_reaches_the_internet_only_on_port_443(port: int) -> None:
    network = installed("ha")[0]

    for component in ("api", "services"):
        (pod,) = ends("ha", component)
        assert not network.allows(pod, End(address="1.1.1.1"), port)


def reaches(address: str) -> bool:
    """Return whether the API or the background services reach HTTPS at an address."""
    pods = [*ends("ha", "api"), *ends("ha", "services")]
    return any(installed("ha")[0].allows(pod, End(address=address), 443) for pod in pods)


# Strategies for addresses prefer those of special-purpose networks.
@given(st.ip_addresses().filter(lambda address: not address.is_global))
def test_the_server_reaches_no_address_that_is_not_public(
    address: IPv4Address | IPv6Address,
) -> None:
    assert not reaches(str(address))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",  # metadata of AWS, Azure, Google Cloud, OpenStack and others
        "169.254.170.2",  # credentials of AWS containers
        "169.254.170.23",  # credentials of EKS pods
        "168.63.129.16",  # Azure's platform
        "192.0.0.192",  # metadata of Oracle Cloud
        "100.100.100.200",  # metadata of Alibaba Cloud
        "fd00:ec2::254",  # metadata of AWS
        "fd00:ec2::23",  # credentials of EKS pods
        "fd20:ce::254",  # metadata of Google Cloud
        "fe80::a9fe:a9fe",  # metadata of OpenStack
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",  # 169.254.169.254 through NAT64
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",  # 169.254.169.254 through 6to4
    ],
)
def test_the_server_reaches_no_service_of_a_clouds_platform(address: str) -> None:
    assert not reaches(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "168.63.129.17", "2606:4700:4700::1111", "2a00:1450::1"]
)
def test_the_server_reaches_public_addresses(address: str) -> None:
    assert reaches(address)


@pytest.mark.parametrize(("story", "component"), [("server", "api"), ("worker", "worker")])
def test_without_the_address_of_the_kubernetes_api_its_port_is_open_to_the_internet(
    story: str, component: str
) -> None:
    policies = [item for item in objects(STORIES[story]) if item["kind"] == "NetworkPolicy"]
    (pod,) = ends("staging", component)

    assert Network(policies, {}).allows(pod, End(address="1.1.1.1"), 6443)
