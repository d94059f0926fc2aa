"""NetworkPolicies hold between real pods, from a pod's first packet on, agent or no agent."""

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

# From its first moment on, for some seconds: what became of each try.
_TRY_AT_ONCE = """
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
    """Return the worker's image, which has Python, and which every cluster has."""
    core = kubernetes_client.CoreV1Api(platform.kubectl.api())
    worker = core.list_namespaced_pod(
        "prefect-workers", label_selector="app.kubernetes.io/component=worker"
    ).items[0]
    return str(worker.spec.containers[0].image)


@pytest.fixture(scope="module")
def pods(platform: Platform, image: str) -> Iterator[Pods]:
    """Run the pods."""
    with policed_pods(platform.kubectl, image) as made:
        yield made


@pytest.fixture(scope="module")
def first_moments(pods: Pods) -> dict[str, set[str]]:
    """Return what became of the tries of two new pods: a policy waits for `newcomer` alone."""
    names = ("newcomer", "free")
    with pods.policy("newcomer", policyTypes=["Egress"]):
        for name in names:
            pods.run(name, "-c", _TRY_AT_ONCE, pods.address("server"))
        for name in names:
            pods.wait(name, "jsonpath={.status.phase}=Succeeded")
    return {name: set(pods.log(name)) for name in names}


def test_the_deploys_look_at_the_network_is_not_misled_by_one_that_was_killed(
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
def test_a_pod_is_reached_by_what_a_new_policy_allows(
    pods: Pods, allowed: list[dict[str, Any]], client: list[int], other: list[int]
) -> None:
    with pods.policy("server", ingress=allowed):
        eventually(
            "the policy is in force",
            lambda: pods.reached("client", "other") == {"client": client, "other": other},
        )


def test_a_block_lets_in_all_but_its_exception(pods: Pods) -> None:
    block = {"cidr": "0.0.0.0/0", "except": [f"{pods.address('other')}/32"]}

    with pods.policy("server", ingress=[{"from": [{"ipBlock": block}]}]):
        eventually(
            "the policy is in force",
            lambda: pods.reached("client", "other") == {"client": list(PORTS), "other": []},
        )


def test_a_new_pod_is_closed_from_its_first_moment_by_a_policy_that_waits_for_it(
    first_moments: dict[str, set[str]],
) -> None:
    assert first_moments["newcomer"] == {"closed"}


def test_a_new_pod_without_policies_is_open_from_its_first_moment(
    first_moments: dict[str, set[str]],
) -> None:
    assert first_moments["free"] == {"open"}


def test_without_the_agent_policies_stay_and_new_pods_are_closed_until_it_is_back(
    pods: Pods,
) -> None:
    if choose_node_image(None).source != "build":
        does_not_apply("kind's own node image has kindnet")
    client_alone = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]
    expected = {"client": list(PORTS), "other": []}
    with pods.policy("server", ingress=client_alone):
        eventually("the policy is in force", lambda: pods.reached("client", "other") == expected)
        with without_agent(pods.kubectl):
            assert pods.reached("client", "other") == expected
            probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
            pods.run("orphan", "-c", SERVE, readinessProbe=probe)
            pods.wait("orphan", "condition=Ready")  # its node reaches it
            assert pods.reached("orphan") == {"orphan": []}
    eventually(
        "the agent is back, and has opened the pod",
        lambda: pods.reached("orphan", "other") == {"orphan": list(PORTS), "other": list(PORTS)},
    )
