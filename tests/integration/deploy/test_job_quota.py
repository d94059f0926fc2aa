"""The quotas of a job namespace count every pod, and admit no pod of another priority class.

The charts' objects are in a real API server, whose quotas the real controller computes.
"""

import json
from collections.abc import Iterator

import pytest
import yaml

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_until
from prefect_platform_cli.doctor.components import components
from prefect_platform_cli.doctor.isolation import Origin
from prefect_platform_cli.doctor.isolation_probe import stand_in
from prefect_platform_cli.doctor.probe_pods import ProbePods
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.render.components import pods_of
from tests.render.job_pods import created_job
from tests.support.control_plane import control_plane, controllers
from tests.support.rendering import STORIES, Object, find, namespaces, objects

_WORKER = STORIES["worker-production"].with_values({"pools.heavy.jobs.quota.pods": "2"})
_APPLIED = {"Namespace", "PriorityClass", "ResourceQuota", "LimitRange", "ConfigMap"}
_JOBS = "flows-heavy"
_CLASS = "prefect-flow-run"
_OTHERS = ["", "system-cluster-critical", "of-others"]
_OTHER_CLASS = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "of-others"},
    "value": 1000,
}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Start an API server with the namespaces of production, and wait for their quotas."""
    directory = tmp_path_factory.mktemp("kubernetes")
    with (
        control_plane(directory, "https://issuer") as kubectl,
        controllers(kubectl, directory, "resourcequota-controller"),
    ):
        made = [each for each in objects(_WORKER) if each["kind"] in _APPLIED]
        api = find(objects(STORIES["server-production"]), "Deployment", "api")
        kubectl.apply(yaml.safe_dump_all([*namespaces("production"), _OTHER_CLASS, *made, api]))

        def computed() -> bool:
            listed = kubectl("get", "resourcequotas", "--all-namespaces", "--output=json")
            quotas = json.loads(listed)["items"]
            return bool(quotas) and all(
                each["status"].get("hard") == each["spec"]["hard"] for each in quotas
            )

        assert wait_until(computed, 60), "the controller does not compute the quotas"
        yield kubectl


def job_pod(priority_class: str) -> Object:
    """Return the pod of a run in the pool `heavy`, with another priority class."""
    pod = pods_of(created_job(_WORKER, "heavy"))
    metadata = {"generateName": "run-", "namespace": _JOBS, "labels": pod["metadata"]["labels"]}
    spec = {**pod["spec"], "priorityClassName": priority_class}
    for field in ("parallelism", "completions"):  # the worker requires them, pods have none
        del spec[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def refusal(kubectl: Kubectl, pod: Object, *options: str) -> str:
    """Return the message with which the API server refuses a pod, empty if it creates it."""
    try:
        kubectl("create", *options, "--filename=-", stdin=json.dumps(pod))
    except PlatformError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("priority_class", _OTHERS)
def test_a_pod_of_another_priority_class_is_refused(kubectl: Kubectl, priority_class: str) -> None:
    message = refusal(kubectl, job_pod(priority_class), "--dry-run=server")

    assert "exceeded quota: prefect-worker-heavy-rest" in message


def test_pods_of_the_pools_class_are_created_until_the_quota_is_used_up(kubectl: Kubectl) -> None:
    with_room = [refusal(kubectl, job_pod(_CLASS)) for _ in range(2)]
    without_room = refusal(kubectl, job_pod(_CLASS))
    kubectl(f"--namespace={_JOBS}", "delete", "pods", "--all", "--force")

    assert with_room == ["", ""]
    assert "exceeded quota: prefect-worker-heavy-jobs" in without_room


def test_the_quota_admits_the_probe_pods_of_the_isolation_check(kubectl: Kubectl) -> None:
    found = [each for each in components(kubectl.api()) if each.source == Origin.JOB]
    pods = ProbePods(kubectl, "isolation")
    try:
        started = {each.namespace: stand_in(pods, each) for each in found}
        without = pods.start(_JOBS, found[0].image, {})
    finally:
        pods.remove()

    assert {name: pod.problem for name, pod in started.items()} == {"flows-default": "", _JOBS: ""}
    assert "exceeded quota: prefect-worker-heavy-rest" in without.problem
