"""A platform on three nodes, next to another platform in the same engine."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform_cli.cluster.engine.detection import recorded_engine
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.host.process import run
from prefect_platform_cli.kube.kubectl import Kubectl
from prefect_platform_cli.kube.names import NAMESPACES
from tests.cluster.deployed import (
    CLUSTER,
    JOBS,
    Platform,
    command,
    deploy_code,
    eventually,
    final,
    run_etl,
)

# A platform on three nodes takes minutes on two cores.
pytestmark = [pytest.mark.whole, pytest.mark.timeout(1200)]

_NAME = "platform-test-three"
_WORKERS = (f"{_NAME}-worker", f"{_NAME}-worker2")
_NODE = "--output=jsonpath={.spec.nodeName}"
_DATABASE = ("--namespace=prefect", "pod/prefect-server-database-0")
_PATIENT = """
import pathlib, time
from prefect import flow

@flow
def patient():
    while not pathlib.Path("/tmp/open").exists():
        time.sleep(0.2)
"""


@dataclass(frozen=True)
class ThreeNodes:
    """The second platform, the first one, and the contents of the engine before the second one."""

    kubectl: Kubectl
    other: Kubectl
    variables: dict[str, str]
    before: frozenset[str]


@pytest.fixture(scope="module")
def three_nodes(
    platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ThreeNodes]:
    """Deploy a second platform on three nodes into the engine of the first one."""
    engine = recorded_engine(CLUSTER)
    assert engine is not None
    # The symlink makes the private engine look like one of the user's own engines.
    socket = tmp_path_factory.mktemp("engine") / "docker.sock"
    socket.symlink_to(engine.docker_host.removeprefix("unix://"))
    variables = {
        "CLUSTER_NAME": _NAME,
        "DOCKER_HOST": f"unix://{socket}",
        "PATH": f"{engine.docker.parent}{os.pathsep}{os.environ['PATH']}",
    }
    before = contents_of_the_engine()
    try:
        deployed = command("deploy", **variables, NODES="3", ENGINE="existing")
        assert deployed.returncode == 0, deployed.stderr
        assert "s3://artifacts/etl-daily/2013-01-01.parquet" in deployed.stdout
        kubectl = Kubectl(KindProvider(_NAME).kubeconfig())
        yield ThreeNodes(kubectl, platform.kubectl, variables, before)
    finally:
        command("destroy", **variables)


@pytest.fixture
def prefect(three_nodes: ThreeNodes) -> Iterator[SyncPrefectClient]:
    """Return a client of the second platform's API."""
    with connected(three_nodes.kubectl) as client:
        yield client


def test_with_other_nodes_the_control_plane_runs_no_pod_of_the_platform(
    three_nodes: ThreeNodes,
) -> None:
    pods = json.loads(three_nodes.kubectl("get", "pods", "--all-namespaces", "--output=json"))
    nodes = {
        pod["spec"]["nodeName"]
        for pod in pods["items"]
        if pod["metadata"]["namespace"] in NAMESPACES
    }
    assert nodes <= set(_WORKERS)
    assert nodes


def test_a_run_on_a_drained_node_is_restarted_on_another_node(
    three_nodes: ThreeNodes, prefect: SyncPrefectClient
) -> None:
    kubectl = three_nodes.kubectl
    run = prefect.create_flow_run_from_deployment(deploy_code(prefect, "patient", _PATIENT))
    selector = f"prefect.io/flow-run-id={run.id}"
    (first,) = running(kubectl, selector)
    drained = first["spec"]["nodeName"]
    (other,) = set(_WORKERS) - {drained}
    try:
        # Drain only the pod of the run.
        kubectl("drain", drained, f"--pod-selector={selector}", "--timeout=120s")
        (second,) = running(kubectl, selector)
        status = command("status", **three_nodes.variables)
        opened = ("exec", second["metadata"]["name"], "--", "touch", "/tmp/open")  # noqa: S108
        kubectl(f"--namespace={JOBS}", *opened)
        ended = final(prefect, run)
    finally:
        kubectl("uncordon", drained)

    assert f"{drained}: Ready, cordoned" in status.stdout
    assert second["spec"]["nodeName"] == other
    assert second["metadata"]["labels"]["job-name"] != first["metadata"]["labels"]["job-name"]
    assert (ended.state_name, ended.run_count) == ("Completed", 2)


def test_a_database_pod_waits_for_the_node_of_its_volume(three_nodes: ThreeNodes) -> None:
    kubectl = three_nodes.kubectl
    node = kubectl("get", *_DATABASE, _NODE)
    kubectl("cordon", node)
    try:
        kubectl("delete", *_DATABASE)
        kubectl("wait", *_DATABASE, "--for=condition=PodScheduled=false", "--timeout=60s")
        waiting = command("status", **three_nodes.variables)
    finally:
        kubectl("uncordon", node)
    kubectl("wait", *_DATABASE, "--for=condition=Ready", "--timeout=180s")

    assert "pod/prefect-server-database-0 in prefect: Unschedulable: 0/3 nodes" in waiting.stdout
    assert kubectl("get", *_DATABASE, _NODE) == node


def test_two_platforms_run_flows_and_destroying_one_leaves_the_other_intact(
    three_nodes: ThreeNodes, prefect: SyncPrefectClient
) -> None:
    with connected(three_nodes.other) as other:
        assert run_etl(other, "2013-11-11").state_name == "Completed"
    assert run_etl(prefect, "2013-11-12").state_name == "Completed"

    destroyed = command("destroy", **three_nodes.variables)

    assert destroyed.returncode == 0, destroyed.stderr
    assert contents_of_the_engine() == three_nodes.before
    again = command("deploy")
    assert "Nothing changed" in again.stdout, again.stderr
    with connected(three_nodes.other) as other:
        assert run_etl(other, "2013-11-13").state_name == "Completed"


def running(kubectl: Kubectl, selector: str) -> list[dict[str, Any]]:
    """Wait until a pod of a run is running, and return all running pods of the run."""
    ours = (f"--namespace={JOBS}", "get", "pods", f"--selector={selector}")
    only = ("--field-selector=status.phase=Running", "--output=json")
    found: list[dict[str, Any]] = []

    def some() -> bool:
        found[:] = json.loads(kubectl(*ours, *only))["items"]
        return bool(found)

    eventually("a pod of the run has started", some, within=300)
    return found


def contents_of_the_engine() -> frozenset[str]:
    """Return one line for each object in the engine of the other tests' cluster."""
    engine = recorded_engine(CLUSTER)
    assert engine is not None
    listed = [
        run(
            [engine.docker, *arguments],
            failure=f"docker {arguments[0]} failed",
            next_step="look at the engine",
            env=engine.environment(),
        )
        for arguments in (
            ("ps", "--all", "--format=container {{.ID}} {{.Names}}"),
            ("image", "ls", "--format=image {{.Repository}}:{{.Tag}}"),
            ("network", "ls", "--format=network {{.ID}} {{.Name}}"),
            ("volume", "ls", "--format=volume {{.Name}}"),
        )
    ]
    return frozenset(line for lines in listed for line in lines.splitlines())
