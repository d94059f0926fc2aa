"""NetworkPolicies are enforced from a pod's first packet, even while the agent does not run."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client as kubernetes_client

from prefect_platform_cli.cluster.engine.detection import choose_node_image
from prefect_platform_cli.doctor.enforcement import enforces_policies
from tests.cluster.deployed import Platform, eventually
from tests.cluster.policed_pods import PORTS, SERVE, Pods, policed_pods
from tests.cluster.policy_agent import without_agent
from tests.support.requirements import does_not_apply

# Tries to connect during the first seconds of a pod, and prints the outcome of each attempt.
_CONNECT_REPEATEDLY = """
import socket, sys, time
end = time.monotonic() + 6
while time.monotonic() < end:
    try:
        socket.create_connection((sys.argv[1], 8080), timeout=0.3).close()
        print("open", flush=True)
        time.sleep(0.1)
    except OSError:
        print("closed", flush=True)
"""


@pytest.fixture(scope="module")
def image(platform: Platform) -> str:
    """Return the worker's image, which contains Python and is on the node of every cluster."""
    core = kubernetes_client.CoreV1Api(platform.kubectl.api())
    worker = core.list_namespaced_pod(
        "prefect-workers", label_selector="app.kubernetes.io/component=worker"
    ).items[0]
    return str(worker.spec.containers[0].image)


@pytest.fixture(scope="module")
def pods(platform: Platform, image: str) -> Iterator[Pods]:
    """Run the server and its clients."""
    with policed_pods(platform.kubectl, image) as made:
        yield made


@pytest.fixture(scope="module")
def first_connections(pods: Pods) -> dict[str, set[str]]:
    """Return the outcomes of the first attempts of two new pods, with a policy for `newcomer`."""
    names = ("newcomer", "free")
    with pods.policy("newcomer", policyTypes=["Egress"]):
        for name in names:
            pods.run(name, "-c", _CONNECT_REPEATEDLY, pods.address("server"))
        for name in names:
            pods.wait(name, "jsonpath={.status.phase}=Succeeded")
    return {name: set(pods.log(name)) for name in names}


def test_the_enforcement_check_ignores_the_policy_of_a_killed_check(
    platform: Platform, image: str
) -> None:
    left_behind = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "policy-probe", "namespace": "prefect"},
        "spec": {
            "podSelector": {"matchLabels": {"prefect-platform/covered": "true"}},
            "policyTypes": ["Egress"],
        },
    }
    platform.kubectl.apply(json.dumps(left_behind))

    assert enforces_policies(platform.kubectl, "prefect", image)


@pytest.mark.parametrize(
    ("allowed", "client", "other"),
    [
        ([], [], []),
        ([{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}], list(PORTS), []),
        ([{"ports": [{"port": "web"}]}], [8081], [8081]),
        ([{"ports": [{"port": 8081, "endPort": 8090}]}], [8081, 8085], [8081, 8085]),
    ],
    ids=["nothing", "a pod by label", "a port by name", "a range of ports"],
)
def test_a_new_policy_allows_exactly_the_connections_that_it_declares(
    pods: Pods, allowed: list[dict[str, Any]], client: list[int], other: list[int]
) -> None:
    with pods.policy("server", ingress=allowed):
        eventually(
            "the policy is enforced",
            lambda: pods.reached("client", "other") == {"client": client, "other": other},
        )


def test_an_ip_block_allows_all_addresses_except_its_exceptions(pods: Pods) -> None:
    block = {"cidr": "0.0.0.0/0", "except": [f"{pods.address('other')}/32"]}

    with pods.policy("server", ingress=[{"from": [{"ipBlock": block}]}]):
        eventually(
            "the policy is enforced",
            lambda: pods.reached("client", "other") == {"client": list(PORTS), "other": []},
        )


def test_an_existing_policy_applies_to_the_first_connection_of_a_new_pod(
    first_connections: dict[str, set[str]],
) -> None:
    assert first_connections["newcomer"] == {"closed"}


def test_the_first_connection_of_a_new_pod_without_policies_succeeds(
    first_connections: dict[str, set[str]],
) -> None:
    assert first_connections["free"] == {"open"}


def test_without_the_agent_policies_remain_and_new_pods_are_isolated_until_it_is_back(
    pods: Pods,
) -> None:
    if choose_node_image(None).source != "build":
        does_not_apply("kind's own node image has kindnet")
    client_alone = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]
    expected = {"client": list(PORTS), "other": []}
    with pods.policy("server", ingress=client_alone):
        eventually("the policy is enforced", lambda: pods.reached("client", "other") == expected)
        with without_agent(pods.kubectl):
            assert pods.reached("client", "other") == expected
            probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
            pods.run("orphan", "-c", SERVE, readinessProbe=probe)
            pods.wait("orphan", "condition=Ready")  # its node can reach it
            assert pods.reached("orphan") == {"orphan": []}
    eventually(
        "the agent is back, and allows the connections of the pod",
        lambda: pods.reached("orphan", "other") == {"orphan": list(PORTS), "other": list(PORTS)},
    )
