"""Failed Jobs of an earlier upgrade do not block the next one; the API is a fake over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_platform_cli.deploy.releases import Release, forget_failed_jobs
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi, fake_kubernetes

RELEASE = Release("prefect-worker", NAMESPACE, Path("chart"), values=[], settings={})
FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
    with fake_kubernetes(tmp_path / "kubeconfig") as api:
        yield api


def put_job(
    kubernetes: KubernetesApi,
    name: str,
    *conditions: dict[str, str],
    release: str = RELEASE.name,
    **metadata: Any,  # noqa: ANN401 - JSON
) -> None:
    """Create a Job of a release, with these conditions in its status."""
    labels = {"app.kubernetes.io/instance": release}
    kubernetes.put(
        "jobs",
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": labels, **metadata},
            "status": {"conditions": list(conditions)} if conditions else {},
        },
    )


def test_failed_jobs_of_the_release_are_removed_with_their_pods(
    kubernetes: KubernetesApi,
) -> None:
    put_job(kubernetes, "failed", FAILED)
    put_job(kubernetes, "failed-too", {"type": "FailureTarget", "status": "True"}, FAILED)

    forget_failed_jobs(Kubectl(kubernetes.kubeconfig), RELEASE)

    assert kubernetes.objects["jobs"] == {}
    assert [each["propagationPolicy"] for each in kubernetes.deletions] == ["Background"] * 2


def test_all_other_jobs_are_kept(kubernetes: KubernetesApi) -> None:
    put_job(kubernetes, "running")
    put_job(kubernetes, "complete", {"type": "Complete", "status": "True"})
    put_job(kubernetes, "failing", {"type": "FailureTarget", "status": "True"})
    put_job(kubernetes, "not-failed", {**FAILED, "status": "False"})
    put_job(kubernetes, "of-a-cron-job", FAILED, ownerReferences=[{"kind": "CronJob"}])
    put_job(kubernetes, "of-another-release", FAILED, release="prefect-server")
    before = dict(kubernetes.objects["jobs"])

    forget_failed_jobs(Kubectl(kubernetes.kubeconfig), RELEASE)

    assert kubernetes.objects["jobs"] == before
    assert kubernetes.deletions == []
