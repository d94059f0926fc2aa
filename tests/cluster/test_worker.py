"""What our worker program adds: reasons for missing pods, and a health check of the observer."""

import json
import re
from collections.abc import Iterator

import pytest
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient

from tests.cluster.deployed import (
    DEPLOYMENT,
    JOBS,
    Platform,
    eventually,
    final,
    may,
    messages,
    on_node,
)

_WORKERS = "--namespace=prefect-workers"
_WORKER = "deployment/prefect-worker-default"


@pytest.fixture
def no_pods(platform: Platform) -> Iterator[dict[str, object]]:
    """Create a second quota that refuses every pod in the namespace of Jobs."""
    quota: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "nothing-more", "namespace": JOBS},
        "spec": {"hard": {"pods": "0"}},
    }
    platform.kubectl.apply(json.dumps(quota))
    try:
        yield quota
    finally:
        remove = ("delete", "resourcequota", "nothing-more", "--ignore-not-found")
        platform.kubectl(f"--namespace={JOBS}", *remove)


def test_a_run_reports_that_a_quota_refuses_its_pod_and_continues_when_there_is_room(
    platform: Platform, prefect: SyncPrefectClient, no_pods: dict[str, object]
) -> None:
    deployment = prefect.read_deployment_by_name(DEPLOYMENT)
    run = prefect.create_flow_run_from_deployment(deployment.id, parameters={"date": "2013-06-01"})

    def refused() -> bool:
        state = prefect.read_flow_run(run.id).state
        return state is not None and "exceeded quota: nothing-more" in str(state.message)

    eventually("the run's state names the quota", refused)
    eventually(
        "the run's log names the quota",
        lambda: any("nothing-more" in line for line in messages(prefect, run.id)),
    )

    platform.kubectl("delete", "--filename=-", stdin=json.dumps(no_pods))
    ended = final(prefect, run)
    assert ended.state is not None
    assert ended.state.is_completed(), ended.state


def test_a_worker_whose_observer_has_lost_its_permissions_is_not_healthy(
    platform: Platform,
) -> None:
    in_jobs = f"--namespace={JOBS}"
    bindings = platform.kubectl(in_jobs, "get", "rolebindings", "--output=json")
    core = kubernetes_client.CoreV1Api(platform.kubectl.api())
    pods = core.list_namespaced_pod(
        "prefect-workers", label_selector="app.kubernetes.io/component=worker"
    ).items
    (worker,) = (pod for pod in pods if pod.metadata.deletion_timestamp is None)
    platform.kubectl("delete", "--filename=-", stdin=bindings)

    def names_a_watch() -> bool:
        said = platform.kubectl(_WORKERS, "logs", worker.metadata.name, "--tail=-1").splitlines()
        watch = re.compile(rf"Not healthy: .*the observer's watch of \S+ in {JOBS} does not run")
        return any(watch.match(line) for line in said)

    try:
        eventually("the worker may not watch Jobs", lambda: not may_watch_jobs(platform))
        # Kubernetes checks permissions only when a watch is opened, so close the connections.
        of_worker = ("state", "established", "dst", worker.status.pod_ip)
        closed = on_node("ss", "--no-header", "--tcp", "--kill", *of_worker, "sport", "=", ":6443")
        assert closed, "the node closed no connection of the worker to the cluster's API"
        eventually("the worker names a watch that has ended", names_a_watch, every=2)
    finally:
        platform.kubectl("create", "--filename=-", stdin=bindings)
        platform.kubectl(_WORKERS, "rollout", "restart", _WORKER)
        platform.kubectl(_WORKERS, "rollout", "status", _WORKER, "--timeout=300s")


def may_watch_jobs(platform: Platform) -> bool:
    worker = "prefect-workers:prefect-worker-default"
    return may(platform.kubectl, worker, "watch", "jobs.batch")
