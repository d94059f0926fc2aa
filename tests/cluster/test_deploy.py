"""deploy-cluster: its output, repeated deploys, repairs and refusals."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from pytest_kind.cluster import KindCluster

from prefect_platform_cli.deploy.releases import installed
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import (
    CLUSTER,
    DEPLOYMENT,
    JOBS,
    Platform,
    command,
    eventually,
    in_parallel,
    on_node,
    restricted_pod,
)
from tests.cluster.policy_agent import without_agent

_WORKER = "prefect-worker-default"
_MISTAKES: dict[str, tuple[dict[str, str], str, str]] = {
    "provider": ({"CLUSTER": "moon"}, "CLUSTER=moon is not valid", "kind or current"),
    "day": (
        {"DATE": "2014-01-01"},
        "not between 2013-01-01 and 2013-12-31",
        "DATE=2013-01-01",
    ),
    "no day": ({"DATE": "tomorrow"}, "DATE=tomorrow is not a date", "DATE=2013-01-01"),
    "nodes": ({"NODES": "3"}, "has 1 nodes, not 3", "make destroy-cluster"),
    "engine": ({"ENGINE": "steam"}, "ENGINE=steam is not valid", "existing or private"),
}
_BROKEN = restricted_pod(
    "broken", "data", {"image": "missing.invalid/none:1", "imagePullPolicy": "Never"}
)


def test_a_deploy_ends_with_a_completed_run_and_a_summary(platform: Platform) -> None:
    assert "The platform is running" in platform.printed
    assert "Completed" in platform.printed
    assert "s3://artifacts/etl-daily/2013-01-01.parquet" in platform.printed
    assert "export KUBECONFIG=" in platform.printed
    pods = platform.kubectl("--namespace=flows-default", "get", "pods", "--output=name")
    assert any(name.removeprefix("pod/") in platform.printed for name in pods.split())


def test_a_second_deploy_changes_nothing_and_starts_no_run(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    releases = installed(platform.kubectl)
    runs = prefect.count_flow_runs()

    again = command("deploy")

    assert again.returncode == 0, again.stderr
    assert "Nothing changed" in again.stdout
    assert installed(platform.kubectl) == releases
    assert prefect.count_flow_runs() == runs


def test_a_deploy_by_kubeconfig_context_to_the_same_cluster_changes_nothing(
    platform: Platform,
) -> None:
    found = command(
        "deploy",
        CLUSTER="current",
        CONTEXT=f"kind-{CLUSTER}",
        KUBECONFIG=str(platform.kubectl.kubeconfig),
    )

    assert found.returncode == 0, found.stderr
    assert "Nothing changed" in found.stdout


@dataclass(frozen=True)
class Repair:
    """A deploy after the loss of the worker's Deployment and of `key`, which runs used."""

    key: str
    deploy: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def repair(platform: Platform) -> Repair:
    """Delete both, and deploy again with a day that has not run yet."""
    key, patch = key_of_runs(platform), {"data": {"default-secret-access-key": None}}
    core = kubernetes_client.CoreV1Api(platform.kubectl.api())
    core.patch_namespaced_secret("object-store", "data", patch)
    platform.kubectl("--namespace=prefect-workers", "delete", "deployment", _WORKER)
    return Repair(key, command("deploy", DATE="2013-05-05"))


def test_a_deploy_restores_a_deleted_object(platform: Platform, repair: Repair) -> None:
    assert repair.deploy.returncode == 0, repair.deploy.stderr
    assert "Nothing changed" not in repair.deploy.stdout
    platform.kubectl("--namespace=prefect-workers", "get", "deployment", _WORKER)


def test_a_deploy_replaces_a_lost_object_store_key_with_a_valid_one(
    platform: Platform, repair: Repair
) -> None:
    assert repair.deploy.returncode == 0, repair.deploy.stderr
    assert "s3://artifacts/etl-daily/2013-05-05.parquet" in repair.deploy.stdout
    assert key_of_runs(platform) != repair.key


def key_of_runs(platform: Platform) -> str:
    core = kubernetes_client.CoreV1Api(platform.kubectl.api())
    return str(core.read_namespaced_secret("object-store", JOBS).data["secret-access-key"])


def test_the_cluster_works_as_users_of_kind_expect(kind_cluster: KindCluster) -> None:
    nodes = json.loads(kind_cluster.kubectl("get", "nodes", "--output=json"))["items"]

    assert [node["metadata"]["name"] for node in nodes] == [f"{CLUSTER}-control-plane"]
    assert "default" in kind_cluster.kubectl("get", "storageclass")
    eventually("the metrics of the node are there", lambda: node_has_metrics(kind_cluster))


def node_has_metrics(kind_cluster: KindCluster) -> bool:
    try:
        return f"{CLUSTER}-control-plane" in kind_cluster.kubectl("top", "nodes")
    except subprocess.CalledProcessError:  # the metrics server has just started
        return False


def test_the_deployment_has_its_schedule_and_its_concurrency_limit(
    prefect: SyncPrefectClient,
) -> None:
    deployment = prefect.read_deployment_by_name(DEPLOYMENT)

    assert [schedule.active for schedule in deployment.schedules] == [True]
    assert deployment.global_concurrency_limit is not None
    assert deployment.global_concurrency_limit.limit == 1


def test_status_names_a_pod_that_is_not_ready_and_its_cause(platform: Platform) -> None:
    platform.kubectl("apply", "--filename=-", stdin=json.dumps(_BROKEN))
    try:
        platform.kubectl(
            *("--namespace=data", "wait", "pod/broken", "--timeout=180s"),
            "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImageNeverPull",
        )
        shown = command("status").stdout
    finally:
        platform.kubectl("--namespace=data", "delete", "pod", "broken", "--now")

    assert "pod/broken in data" in shown
    assert "ErrImageNeverPull" in shown
    assert "prefect/prefect-server" in shown
    assert re.search(r"base image\s+│ \d+ days old", shown), shown
    assert "private" in shown or "existing" in shown


@pytest.fixture(scope="module")
def refusals() -> dict[str, subprocess.CompletedProcess[str]]:
    """Run a deploy with each of the mistakes, and return the results."""
    calls = [partial(command, "deploy", **variables) for variables, _, _ in _MISTAKES.values()]
    return dict(zip(_MISTAKES, in_parallel(*calls), strict=True))


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("mistake", _MISTAKES)
def test_a_mistake_is_reported_with_its_cause_and_the_next_step(
    refusals: dict[str, subprocess.CompletedProcess[str]], mistake: str
) -> None:
    refused, (_, cause, advice) = refusals[mistake], _MISTAKES[mistake]

    assert refused.returncode != 0
    assert cause in refused.stderr
    assert advice in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_network_that_does_not_enforce_policies_is_refused_unless_accepted(
    platform: Platform,
) -> None:
    with unenforced(platform.kubectl):
        refused = command("deploy")
        accepted = command("deploy", UNENFORCED_POLICIES="accept")

    assert refused.returncode == 1
    assert "the cluster's network does not enforce NetworkPolicies" in refused.stderr
    assert "UNENFORCED_POLICIES=accept" in refused.stderr
    assert "Install prefect-worker" not in refused.stderr
    assert accepted.returncode == 0, accepted.stderr
    assert "the cluster's network does not enforce NetworkPolicies" in accepted.stderr


@contextmanager
def unenforced(kubectl: Kubectl) -> Iterator[None]:
    """Delete the rules of the node's agent, and remove the agent, which would restore them."""
    with without_agent(kubectl):
        for chain in ("leaving", "arriving"):
            on_node("nft", "flush", "chain", "inet", "network-policy", chain)
        yield
