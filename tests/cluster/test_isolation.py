"""Who reaches whom in the running platform: the declared table, and nothing beside it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client as kubernetes_client

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import CLUSTER, JOBS, command, eventually, helm
from tests.cluster.ha_server import Server
from tests.cluster.outside import outside

_SECOND = "second"
_PROBES = "--selector=prefect-platform/probe"
_OPEN = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "opened-by-somebody", "namespace": JOBS},
    "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
}

_FULL = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "full", "namespace": JOBS},
    "spec": {"hard": {"pods": "0"}},
}


@pytest.fixture(scope="module")
def two_pools(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Have the server in mode ha serve a second pool, whose worker goes when the module ends."""
    namespaces = ["prefect-workers", JOBS, f"flows-{_SECOND}"]
    clients = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        for namespace in namespaces
    ]
    server.upgrade("--set-json", f"networkPolicies.apiClients={json.dumps(clients)}")
    declared = yaml.safe_load((REPOSITORY / "k8s/environments/local/platform.yaml").read_text())
    declared["work_pools"][_SECOND] = {}
    file = tmp_path_factory.mktemp("pools") / "platform.yaml"
    file.write_text(yaml.safe_dump(declared))
    try:
        helm(
            server.kubectl,
            "prefect-workers",
            *("upgrade", "prefect-worker", str(REPOSITORY / "helm" / "prefect-worker")),
            *("--reset-then-reuse-values", "--set-file", f"configuration.platform={file}"),
            *("--set-json", f'pools.{_SECOND}={{"jobs": {{"createNamespace": true}}}}'),
        )
        yield server
    finally:
        helm(server.kubectl, "prefect-workers", "rollback", "prefect-worker", wait=False)
        namespace = ("namespace", f"flows-{_SECOND}", "--ignore-not-found", "--wait=false")
        server.kubectl("delete", *namespace)


def test_everybody_reaches_what_is_declared_and_nothing_else(two_pools: Server) -> None:
    with outside() as world:
        looked = command("doctor", "isolation", "--world", world)

    sys.stdout.write(looked.stdout)
    assert looked.returncode == 0, looked.stderr
    assert f"job pod of {_SECOND}" in looked.stdout
    assert "services" in looked.stdout
    assert "not probed" not in looked.stdout
    assert probes(two_pools.kubectl) == []


def test_a_way_that_somebody_opens_is_named(two_pools: Server) -> None:
    two_pools.kubectl.apply(json.dumps(_OPEN))
    try:
        with outside() as world:
            looked = command("doctor", "isolation", "--world", world)
    finally:
        two_pools.kubectl("delete", "--filename=-", stdin=json.dumps(_OPEN))

    assert looked.returncode == 1
    for target in ("Kubernetes API", "cloud metadata", "world"):
        assert f"job pod of default reaches {target} (" in looked.stderr
    assert f"job pod of {_SECOND} reaches" not in looked.stderr
    assert "Traceback" not in looked.stderr


def test_what_answers_nobody_and_what_no_pod_can_stand_in_for_is_told_as_not_probed(
    two_pools: Server,
) -> None:
    two_pools.kubectl.apply(json.dumps(_FULL))
    try:
        looked = command("doctor", "isolation", "--world", "198.19.255.2:443")
    finally:
        two_pools.kubectl("delete", "--filename=-", stdin=json.dumps(_FULL))

    assert looked.returncode == 0, looked.stderr
    assert "not probed: nobody reaches 198.19.255.2:443" in looked.stdout
    assert f"not probed: a pod in {JOBS} is refused: " in looked.stdout
    assert "exceeded quota: full" in looked.stdout


def test_probe_pods_serve_nobody_and_are_gone_when_it_is_interrupted(two_pools: Server) -> None:
    selector = "kubernetes.io/service-name=prefect-server"
    discovery = kubernetes_client.DiscoveryV1Api(two_pools.kubectl.api())

    def stand_ins() -> dict[str, bool]:
        """Return whether each probe pod that the Service of the API lists is ready."""
        slices = discovery.list_namespaced_endpoint_slice("prefect", label_selector=selector).items
        return {
            endpoint.target_ref.name: endpoint.conditions.ready
            for each in slices
            for endpoint in each.endpoints or []
            if endpoint.target_ref.name.startswith("probe-")
        }

    with subprocess.Popen(
        [
            *(Path(sys.executable).with_name("prefect-platform"), "doctor", "isolation"),
            *("--world", "198.19.255.2:443"),
        ],
        env={**os.environ, "CLUSTER_NAME": CLUSTER},
        stderr=subprocess.DEVNULL,
    ) as looking:
        eventually("all probe pods listen", lambda: listening(two_pools.kubectl) == 9)
        listed = stand_ins()
        looking.send_signal(signal.SIGINT)

    assert looking.returncode == 130
    assert list(listed.values()) == [False]
    eventually("the probe pods are gone", lambda: probes(two_pools.kubectl) == [])


def probes(kubectl: Kubectl) -> list[str]:
    return kubectl("get", "pods", "--all-namespaces", _PROBES, "--output=name").split()


def listening(kubectl: Kubectl) -> int:
    """Return how many probe pods are ready but for their gate, which nobody opens."""
    core = kubernetes_client.CoreV1Api(kubectl.api())
    pods = core.list_pod_for_all_namespaces(label_selector="prefect-platform/probe").items
    return sum(
        condition.type == "ContainersReady" and condition.status == "True"
        for pod in pods
        for condition in pod.status.conditions or []
    )
