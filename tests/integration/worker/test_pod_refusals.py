"""A run whose pod Kubernetes refuses says why, once, and no other run is touched."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prefect.client.orchestration import PrefectClient, SyncPrefectClient

from prefect_platform.polling import wait_until
from prefect_platform.worker import pod_refusals
from tests.integration.worker.worker_program import WITHIN, prefect_server, watching_worker
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi, fake_kubernetes

QUOTA = "exceeded quota: jobs, requested: pods=1, used: pods={used}, limited: pods=20"
POLICY = 'violates PodSecurity "restricted:latest": runAsNonRoot != true'


class Platform:
    """A Prefect server and a Kubernetes with a worker between them."""

    def __init__(self, api_url: str, kubernetes: KubernetesApi) -> None:
        self.api_url = api_url
        self.kubernetes = kubernetes
        self._client = SyncPrefectClient(api_url)  # repeats what a busy SQLite refuses
        self._flow_id = self._client.create_flow_from_name("refused")

    def run(self, kind: str = "PENDING", name: str = "Submitting") -> str:
        """Create a flow run in a state and return its id."""
        state = {"type": kind, "name": name, "message": "as before"}
        body = {"flow_id": str(self._flow_id), "state": state}
        return str(self._client.request("POST", "/flow_runs/", json=body).json()["id"])

    def state(self, run: str) -> tuple[str, str]:
        """Return name and message of a run's state."""
        state = self._client.read_flow_run(uuid.UUID(run)).state
        assert state is not None
        return str(state.name), str(state.message)

    def logs(self, run: str) -> list[str]:
        """Return what the run's log says, oldest first."""
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        lines = self._client.request("POST", "/logs/filter", json=wanted).json()
        return [line["message"] for line in lines]

    def job(self, run: str, **status: int) -> dict[str, Any]:
        """Make the Job of a run."""
        metadata = {"generateName": "job-", "labels": {"prefect.io/flow-run-id": run}}
        return self.kubernetes.put("jobs", {"metadata": metadata, "status": status})

    def refuse(self, event: str, job: dict[str, Any], reason: str, **of_job: str) -> None:
        """Let the Event `event` say that a pod of `job` is refused; changed, it keeps its order."""
        metadata = job["metadata"]
        involved = {
            "kind": "Job",
            **{key: metadata[key] for key in ("name", "namespace", "uid")},
            **of_job,
        }
        pod = f"{metadata['name']}-{uuid.uuid4().hex[:5]}"
        self.kubernetes.put(
            "events",
            {
                "metadata": {"name": event},
                "involvedObject": involved,
                "reason": "FailedCreate",
                "message": f'Error creating: pods "{pod}" is forbidden: {reason}',
            },
        )

    def await_logs(self, run: str, count: int) -> list[str]:
        """Return the run's log once it has `count` lines."""
        assert wait_until(lambda: len(self.logs(run)) >= count, WITHIN), self.logs(run)
        return self.logs(run)

    def await_state(self, run: str, name: str) -> str:
        """Return the message of the run's state once it is called `name`."""
        assert wait_until(lambda: self.state(run)[0] == name, WITHIN), self.state(run)
        return self.state(run)[1]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("platform")
    with ExitStack() as stack:
        api_url = stack.enter_context(prefect_server(home))
        kubernetes = stack.enter_context(fake_kubernetes(home / "kubeconfig"))
        stack.enter_context(watching_worker(api_url, kubernetes, home / "first", "first"))
        yield Platform(api_url, kubernetes)


def test_the_reason_is_in_the_log_once_and_in_the_state(platform: Platform) -> None:
    run = platform.run()
    job = platform.job(run)
    sentence = f"Kubernetes makes no pod for Job {NAMESPACE}/{job['metadata']['name']}: "

    for used in range(20, 24):
        platform.refuse("one", job, QUOTA.format(used=used))
    platform.refuse("one", job, POLICY)

    told = platform.await_logs(run, 2)
    assert told == [sentence + QUOTA.format(used=20), sentence + POLICY]
    assert platform.state(run) == (pod_refusals.STATE, told[0])


def test_the_api_is_asked_for_the_events_of_refused_pods_alone(platform: Platform) -> None:
    asked = [urlsplit(request) for request in platform.kubernetes.requests if "/events" in request]

    selector = ["involvedObject.kind=Job,reason=FailedCreate"]
    assert asked
    assert all(parse_qs(url.query).get("fieldSelector") == selector for url in asked)


def test_a_pod_that_is_made_at_last_takes_the_reason_away(platform: Platform) -> None:
    run = platform.run()
    platform.refuse("late", platform.job(run), QUOTA.format(used=20))
    platform.await_state(run, pod_refusals.STATE)

    labels = {"prefect.io/flow-run-id": run}
    status = {"phase": "Pending"}
    created = "2026-01-01T00:00:00Z"
    metadata = {"name": "made", "labels": labels, "creationTimestamp": created}
    platform.kubernetes.put("pods", {"metadata": metadata, "status": status})

    assert "refuse" not in platform.await_state(run, "InfrastructurePending")


@pytest.mark.parametrize("kind", ["RUNNING", "SCHEDULED", "CANCELLING", "COMPLETED", "PAUSED"])
def test_a_run_that_does_not_wait_for_a_pod_is_left_alone(platform: Platform, kind: str) -> None:
    run, waiting = platform.run(kind, kind.title()), platform.run()
    before = platform.state(run)

    platform.refuse(f"left-{kind}", platform.job(run), POLICY)
    platform.refuse(f"left-{kind}", platform.job(waiting), POLICY)

    platform.await_logs(waiting, 1)
    assert platform.state(run) == before
    assert platform.logs(run) == []


@pytest.mark.parametrize(
    ("status", "of_job"), [({"active": 1}, {}), ({}, {"uid": "of-an-earlier-job"})]
)
def test_an_event_that_is_outdated_is_ignored(
    platform: Platform, status: dict[str, int], of_job: dict[str, str]
) -> None:
    run, waiting = platform.run(), platform.run()
    event = f"outdated-{run}"

    platform.refuse(event, platform.job(run, **status), POLICY, **of_job)
    platform.refuse(event, platform.job(waiting), POLICY)

    platform.await_logs(waiting, 1)
    assert platform.state(run) == ("Submitting", "as before")


def test_what_belongs_to_no_run_stops_nothing(platform: Platform) -> None:
    waiting = platform.run()
    deleted = platform.job(str(uuid.uuid4()))
    without_label = platform.kubernetes.put("jobs", {"metadata": {"name": "other"}, "status": {}})

    platform.refuse("nobody", deleted, POLICY)
    platform.refuse("nobody", without_label, POLICY)
    platform.refuse("nobody", deleted, POLICY, name="gone")
    platform.refuse("nobody", platform.job(waiting), POLICY)

    assert len(platform.await_logs(waiting, 1)) == 1


def test_a_second_worker_repeats_a_further_reason_only(platform: Platform, tmp_path: Path) -> None:
    run = platform.run()
    job = platform.job(run)
    platform.refuse("shared", job, QUOTA.format(used=20))
    platform.await_logs(run, 1)

    api_url, kubernetes = platform.api_url, platform.kubernetes
    with watching_worker(api_url, kubernetes, tmp_path / "second", "second"):
        platform.refuse("shared", job, POLICY)

        told = platform.await_logs(run, 3)

    assert ["quota" in line for line in told] == [True, False, False]


def test_a_run_that_has_begun_meanwhile_is_never_put_back(platform: Platform) -> None:
    run = platform.run("RUNNING", "Running")

    async def propose() -> bool:
        async with PrefectClient(platform.api_url) as client:
            return await pod_refusals._accepted(client, uuid.UUID(run), "too late")

    assert asyncio.run(propose()) is False
    assert platform.state(run) == ("Running", "as before")


@pytest.mark.parametrize(
    "message",
    [
        f'Error creating: pods "a-b1c2d" is forbidden: {POLICY}',
        f'(combined from similar events): Error creating: pods "a-x" is forbidden: {POLICY}',
        f"Error creating: {POLICY}",
        POLICY,
    ],
)
def test_the_reason_is_what_follows_the_name_of_the_pod(message: str) -> None:
    assert pod_refusals.cause(message) == POLICY


def test_another_limit_is_another_reason_and_another_use_is_not() -> None:
    reason = pod_refusals.distinct(QUOTA.format(used=20))

    assert pod_refusals.distinct(QUOTA.format(used=7)) == reason
    assert pod_refusals.distinct(QUOTA.format(used=20).replace("=20", "=30")) != reason
