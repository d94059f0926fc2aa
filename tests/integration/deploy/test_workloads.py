"""A release is ready when its workloads and their pods are; the API is a fake over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.kube.kubectl import Kubectl
from prefect_platform_cli.kube.workloads import wait_until_ready
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi, fake_kubernetes

LABELS = {"app.kubernetes.io/instance": "prefect-server"}
SELECTOR = "app.kubernetes.io/instance=prefect-server"


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesApi]:
    """Yield an API with one Deployment whose status says that it is ready."""
    with fake_kubernetes(tmp_path / "kubeconfig") as api:
        counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), 1)
        api.put(
            "deployments",
            {
                "metadata": {"name": "api", "generation": 1, "labels": LABELS},
                "spec": {"replicas": 1, "selector": {}, "template": {}},
                "status": {"observedGeneration": 1, **counts},
            },
        )
        yield api


def put_pod(kubernetes: KubernetesApi, owner: str, ready: str) -> None:
    """Create a pod with an owner of the kind `owner`; `ready` is its condition Ready."""
    reference = {"apiVersion": "apps/v1", "kind": owner, "name": "its-owner", "uid": "1"}
    kubernetes.put(
        "pods",
        {
            "metadata": {"name": "a-pod", "labels": LABELS, "ownerReferences": [reference]},
            "spec": {"containers": [{"name": "main"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready}],
            },
        },
    )


def require_ready(kubernetes: KubernetesApi) -> None:
    """Check once that the release is ready, without waiting; raise PlatformError if not."""
    wait_until_ready(Kubectl(kubernetes.kubeconfig).api(), NAMESPACE, SELECTOR, within=0)


def test_a_pod_that_is_not_ready_is_waited_for_even_if_its_deployment_is_ready(
    kubernetes: KubernetesApi,
) -> None:
    put_pod(kubernetes, "ReplicaSet", "False")
    with pytest.raises(PlatformError, match=f"pod/a-pod in {NAMESPACE}: phase Running"):
        require_ready(kubernetes)


@pytest.mark.parametrize(("owner", "state"), [("ReplicaSet", "True"), ("Job", "False")])
def test_ready_pods_and_pods_of_jobs_are_not_waited_for(
    kubernetes: KubernetesApi, owner: str, state: str
) -> None:
    put_pod(kubernetes, owner, state)
    require_ready(kubernetes)


def test_a_failed_job_is_named_with_the_reason_of_kubernetes(kubernetes: KubernetesApi) -> None:
    message = "Job was active longer than specified deadline"
    failed = {"type": "Failed", "status": "True", "message": message}
    kubernetes.put(
        "jobs",
        {
            "metadata": {"name": "configuration", "labels": LABELS},
            "spec": {"template": {}},
            "status": {"conditions": [failed]},
        },
    )

    with pytest.raises(PlatformError, match=f"job/configuration in {NAMESPACE}: failed: {message}"):
        require_ready(kubernetes)
