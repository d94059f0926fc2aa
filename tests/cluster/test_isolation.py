"""The running platform allows exactly the connections in the isolation table."""

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
from tests.cluster.deployed import CLUSTER, JOBS, command, eventually, helm, in_parallel
from tests.cluster.ha_server import Server
from tests.cluster.outside import WORLD, outside

# These tests often wait; meanwhile, the image that test_upgrade.py needs is built.
pytestmark = pytest.mark.usefixtures("older")

_SECOND = "second"
_PODS = 9  # probe pods that `doctor isolation` starts
_PROBES = "--selector=prefect-platform/probe"
_OPEN = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "opened-to-everything", "namespace": JOBS},
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
    """Let the server in mode ha serve a second pool, and remove its worker when the module ends."""
    namespaces = ["prefect-workers", JOBS, f"flows-{_SECOND}"]
    clients = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        for namespace in namespaces
    ]
    # The chart's own rule excludes the network of WORLD, as it is not public.
    chart = yaml.safe_load((REPOSITORY / "helm/prefect-server/values.yaml").read_text())
    to_world = {"to": [{"ipBlock": {"cidr": f"{WORLD}/32"}}], "ports": [{"port": 443}]}
    egress = [*chart["networkPolicies"]["apiEgress"], to_world]
    policies = (
        *("--set-json", f"networkPolicies.apiClients={json.dumps(clients)}"),
        *("--set-json", f"networkPolicies.apiEgress={json.dumps(egress)}"),
    )
    declared = yaml.safe_load((REPOSITORY / "k8s/environments/local/platform.yaml").read_text())
    declared["work_pools"][_SECOND] = {}
    file = tmp_path_factory.mktemp("pools") / "platform.yaml"
    file.write_text(yaml.safe_dump(declared))
    add_pool = (
        *("upgrade", "prefect-worker", str(REPOSITORY / "helm" / "prefect-worker")),
        *("--reset-then-reuse-values", "--set-file", f"configuration.platform={file}"),
        *("--set-json", f'pools.{_SECOND}={{"jobs": {{"createNamespace": true}}}}'),
    )
    try:
        in_parallel(
            lambda: server.upgrade(*policies),
            lambda: helm(server.kubectl, "prefect-workers", *add_pool),
        )
        yield server
    finally:
        helm(server.kubectl, "prefect-workers", "rollback", "prefect-worker", wait=False)
        namespace = ("namespace", f"flows-{_SECOND}", "--ignore-not-found", "--wait=false")
        server.kubectl("delete", *namespace)


def test_every_origin_reaches_exactly_its_declared_targets(two_pools: Server) -> None:
    with outside() as world:
        looked = command("doctor", "isolation", "--world", world)

    sys.stdout.write(looked.stdout)
    assert looked.returncode == 0, looked.stderr
    assert f"job pod of {_SECOND}" in looked.stdout
    assert "services" in looked.stdout
    assert "not probed" not in looked.stdout
    assert probes(two_pools.kubectl) == []


def test_a_connection_that_an_additional_policy_allows_is_reported(two_pools: Server) -> None:
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


def test_a_pool_whose_namespace_lost_its_protection_is_reported(two_pools: Server) -> None:
    label = "pod-security.kubernetes.io/enforce"
    name = "prefect-workers-prefect-worker-second"
    before, status = command("doctor", "pools"), command("status")
    two_pools.kubectl("label", "namespace", f"flows-{_SECOND}", f"{label}-")
    two_pools.kubectl("delete", "validatingadmissionpolicybinding", name)
    try:
        looked = command("doctor", "pools")
    finally:
        two_pools.kubectl("label", "namespace", f"flows-{_SECOND}", f"{label}=restricted")

    sys.stdout.write(looked.stdout)
    assert before.returncode == 0, before.stderr
    shown = " ".join(status.stdout.replace("│", " ").split())
    for pool in ("default", _SECOND):
        assert f"{pool}: the server has the base job template of the chart" in shown
    assert looked.returncode == 1
    assert f"the namespace flows-{_SECOND} does not enforce the Pod Security" in looked.stderr
    assert f"Kubernetes admits Jobs in the namespace flows-{_SECOND} that" in looked.stderr
    assert JOBS not in looked.stderr
    assert "Traceback" not in looked.stderr


def test_unreachable_targets_and_refused_probe_pods_are_reported_as_not_probed(
    two_pools: Server,
) -> None:
    two_pools.kubectl.apply(json.dumps(_FULL))
    try:
        looked = command("doctor", "isolation", "--world", f"{WORLD}:443")
    finally:
        two_pools.kubectl("delete", "--filename=-", stdin=json.dumps(_FULL))

    assert looked.returncode == 0, looked.stderr
    assert f"not probed: no pod reaches {WORLD}:443" in looked.stdout
    assert f"not probed: a pod in {JOBS} is refused: " in looked.stdout
    assert "exceeded quota: full" in looked.stdout


def test_probe_pods_receive_no_traffic_and_are_deleted_after_an_interruption(
    two_pools: Server,
) -> None:
    selector = "kubernetes.io/service-name=prefect-server"
    discovery = kubernetes_client.DiscoveryV1Api(two_pools.kubectl.api())

    def listed_probe_pods() -> dict[str, bool]:
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
            # When a shell runs the tests in the background, their children would ignore Ctrl-C.
            *("env", "--default-signal=INT"),
            *(Path(sys.executable).with_name("prefect-platform"), "doctor", "isolation"),
            *("--world", f"{WORLD}:443"),
        ],
        env={**os.environ, "CLUSTER_NAME": CLUSTER},
        stderr=subprocess.DEVNULL,
    ) as looking:
        eventually("all probe pods exist", lambda: len(probes(two_pools.kubectl)) == _PODS)
        looking.send_signal(signal.SIGSTOP)  # it could end before the pods are looked at
        try:
            eventually("all probe pods listen", lambda: listening(two_pools.kubectl) == _PODS)
            eventually("the Service lists a probe pod", lambda: bool(listed_probe_pods()))
            listed = listed_probe_pods()
        finally:
            looking.send_signal(signal.SIGINT)
            looking.send_signal(signal.SIGCONT)

    assert looking.returncode == 130
    assert list(listed.values()) == [False]
    eventually("the probe pods are deleted", lambda: probes(two_pools.kubectl) == [])


def probes(kubectl: Kubectl) -> list[str]:
    return kubectl("get", "pods", "--all-namespaces", _PROBES, "--output=name").split()


def listening(kubectl: Kubectl) -> int:
    """Return how many probe pods are ready except for their readiness gate, which stays closed."""
    core = kubernetes_client.CoreV1Api(kubectl.api())
    pods = core.list_pod_for_all_namespaces(label_selector="prefect-platform/probe").items
    return sum(
        condition.type == "ContainersReady" and condition.status == "True"
        for pod in pods
        for condition in pod.status.conditions or []
    )
