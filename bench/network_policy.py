"""Measure how soon a NetworkPolicy is enforced, and how soon a new pod's first packet passes.

`python -m bench.network_policy` needs a cluster with our own node image, named by CLUSTER_NAME.
Pods with a policy alternate with pods without one, so that both run under the same conditions.
"""

import argparse
import os
import time
from statistics import median

from kubernetes import client as kubernetes_client
from rich.console import Console
from rich.table import Table

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import eventually
from tests.cluster.policed_pods import NAMESPACE, Pods, policed_pods

_IMAGE = "prefect-platform.local/node-tools:v1"
# Connects repeatedly. Prints each change of the result, and the time at which that attempt began.
_OBSERVE = """
import socket, sys, time
seen = ""
while True:
    began = time.time()
    try:
        socket.create_connection((sys.argv[1], 8080), timeout=0.05).close()
        state = "open"
    except OSError:
        state = "closed"
    if state != seen:
        print(f"{state} {began}", flush=True)
        seen = state
    time.sleep(0.005)
"""
_FIRST_PACKET = """
import socket, sys, time
print(time.time(), flush=True)
while True:
    try:
        socket.create_connection((sys.argv[1], 8080), timeout=0.05).close()
        break
    except OSError:
        pass
print(time.time(), flush=True)
"""


def main() -> None:
    """Run the rounds and print the medians, in seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    cluster = os.environ.get("CLUSTER_NAME", "prefect-platform")
    kubectl = Kubectl(KindProvider(cluster).kubeconfig())
    table = Table("seconds, median (longest)", "with a policy", "without", "ratio")
    with policed_pods(kubectl, _IMAGE) as pods:
        closing, opening = _enforcement(pods, rounds)
        table.add_row("from a policy's creation to its enforcement", _seconds(closing), "", "")
        table.add_row(
            "from a policy's deletion to the end of its enforcement", _seconds(opening), "", ""
        )
        policed, free = _new_pods(pods, rounds)
        for number, what in enumerate(
            ("from a pod's creation to its start", "from a pod's start to its first packet")
        ):
            ours, plain = [each[number] for each in policed], [each[number] for each in free]
            ratio = f"{median(ours) / median(plain):.2f}"
            table.add_row(what, _seconds(ours), _seconds(plain), ratio)
    Console(width=100).print(table)


def _enforcement(pods: Pods, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds until each new policy took effect, and until each deletion did."""
    pods.run("observer", "-c", _OBSERVE, pods.address("server"))
    pods.wait("observer", "condition=Ready")
    network = kubernetes_client.NetworkingV1Api(pods.kubectl.api())
    policy = {
        "metadata": {"name": "observed"},
        "spec": {"podSelector": {"matchLabels": {"app": "observer"}}, "policyTypes": ["Egress"]},
    }
    changes = 1
    _changes(pods, changes)
    closing, opening = [], []
    for _ in range(rounds):
        created = time.time()
        network.create_namespaced_network_policy(NAMESPACE, policy)
        changes += 1
        closing.append(_changes(pods, changes) - created)
        deleted = time.time()
        network.delete_namespaced_network_policy("observed", NAMESPACE)
        changes += 1
        opening.append(_changes(pods, changes) - deleted)
    return closing, opening


def _changes(pods: Pods, count: int) -> float:
    """Wait for the observer's change number `count`; return its time in seconds since the epoch."""
    eventually("the observer sees the change", lambda: len(pods.log("observer")) >= 2 * count)
    return float(pods.log("observer")[2 * count - 1])


def _new_pods(
    pods: Pods, rounds: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return the seconds to start and to the first packet, for pods with and without a policy."""
    server = {"podSelector": {"matchLabels": {"app": "server"}}}
    found: dict[str, list[tuple[float, float]]] = {"policed": [], "free": []}
    with pods.policy("policed", policyTypes=["Egress"], egress=[{"to": [server]}]):
        for _ in range(rounds):
            for name, measured in found.items():
                created = time.time()
                pods.run(name, "-c", _FIRST_PACKET, pods.address("server"))
                pods.wait(name, "jsonpath={.status.phase}=Succeeded")
                started, passed = map(float, pods.log(name))
                measured.append((started - created, passed - started))
                pods.kubectl(f"--namespace={NAMESPACE}", "delete", "pod", name)
    return found["policed"], found["free"]


def _seconds(values: list[float]) -> str:
    return f"{median(values):.3f} ({max(values):.3f})"


if __name__ == "__main__":
    main()
