"""Waiting for Argo CD; the tests write what its controller would write to the Kubernetes API."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_until
from prefect_platform_cli.deploy.argocd import applications
from prefect_platform_cli.deploy.argocd.applications import wait_until_deployed
from prefect_platform_cli.deploy.argocd.installation import definitions
from prefect_platform_cli.deploy.argocd.names import NAMESPACE, ROOT
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support.control_plane import control_plane

COMMIT, EARLIER = "c" * 40, "e" * 40
SERVER = f"{ROOT}-server"
HEALTHY = {"status": "Healthy"}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Start an API server that knows Applications."""
    with control_plane(tmp_path_factory.mktemp("kubernetes"), "https://issuer") as kubectl:
        kubectl.apply(definitions())
        # `kubectl wait` fails for a definition that has no condition yet.
        served = ("api-resources", "--api-group=argoproj.io", "--output=name")
        assert wait_until(
            lambda: "applications.argoproj.io" in kubectl(*served).split(), 60, every=0.2
        ), "Applications are not served"
        kubectl("create", "namespace", NAMESPACE)
        put(kubectl, ROOT, synced(COMMIT), health=HEALTHY)
        yield kubectl


def synced(commit: str, status: str = "Synced") -> dict[str, str]:
    return {"status": status, "revision": commit}


def put(kubectl: Kubectl, name: str, sync: dict[str, str], **status: Any) -> None:  # noqa: ANN401 - JSON
    """Create or replace an Application with this status."""
    destination = {"server": "https://kubernetes.default.svc", "namespace": "prefect"}
    kubectl.apply(
        json.dumps(
            {
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "Application",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": {"app.kubernetes.io/part-of": "prefect-platform"},
                },
                "spec": {"project": "ours", "destination": destination},
                "status": {"sync": sync, **status},
            }
        )
    )


def failure(kubectl: Kubectl) -> str:
    with pytest.raises(PlatformError) as failed:
        wait_until_deployed(kubectl, COMMIT, within=0.1)
    return failed.value.message


def test_it_returns_when_all_are_synced_and_healthy_and_asks_argo_cd_to_look(
    kubectl: Kubectl,
) -> None:
    put(kubectl, SERVER, synced(COMMIT), health=HEALTHY)

    wait_until_deployed(kubectl, COMMIT, within=0.1)

    listed = json.loads(kubectl(f"--namespace={NAMESPACE}", "get", "applications", "-o", "json"))
    for item in listed["items"]:
        assert item["metadata"]["annotations"]["argocd.argoproj.io/refresh"] == "normal"


def test_an_earlier_commit_is_not_enough(kubectl: Kubectl) -> None:
    put(kubectl, SERVER, synced(EARLIER), health=HEALTHY)

    assert f"{SERVER} is Synced: not synced" in failure(kubectl)


def test_a_sync_that_runs_is_waited_for(kubectl: Kubectl) -> None:
    operation = {
        "phase": "Running",
        "message": "waiting for completion of hook",
        "operation": {},
        "startedAt": "2026-01-01T12:00:00Z",
    }
    put(kubectl, SERVER, synced(COMMIT), health=HEALTHY, operationState=operation)

    assert "waiting for completion of hook" in failure(kubectl)


def test_what_is_not_healthy_is_named_with_the_reason(kubectl: Kubectl) -> None:
    degraded = {"status": "Degraded", "message": "the Job migrations failed"}
    put(kubectl, SERVER, synced(COMMIT), health=degraded)

    assert f"{SERVER} is Degraded: the Job migrations failed" in failure(kubectl)


def test_an_error_that_lasts_ends_the_wait_with_the_message_of_argo_cd(
    kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applications, "_LASTING", 0)
    condition = {"type": "ComparisonError", "message": "helm template failed"}
    put(kubectl, SERVER, synced(EARLIER, "Unknown"), conditions=[condition])

    with pytest.raises(PlatformError) as failed:
        wait_until_deployed(kubectl, COMMIT, within=60)

    assert f"Argo CD cannot deploy {COMMIT[:12]}: {SERVER}: helm template failed" in (
        failed.value.message
    )
    assert "What was deployed before keeps running" in failed.value.message
