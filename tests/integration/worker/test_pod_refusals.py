"""The reason why Kubernetes refuses a pod is reported once, on the run of that pod only."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prefect.client.orchestration import PrefectClient, SyncPrefectClient

from prefect_platform import waiting_reasons
from prefect_platform.polling import wait_until
from prefect_platform.waiting_reasons import POD_REFUSED, WaitingReason
from prefect_platform.worker import pod_refusals, waiting_states
from tests.integration.worker.worker_program import WITHIN, prefect_server, watching_worker
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi, fake_kubernetes

QUOTA = "exceeded quota: jobs, requested: pods=1, used: pods={used}, limited: pods=20"
OTHER_POLICY = "maximum cpu usage per Container is 1, but limit is 2"
POLICY = 'violates PodSecurity "restricted:latest": runAsNonRoot != true'


class Platform:
    """A Prefect server and a fake Kubernetes, with a worker that connects to both."""

    def __init__(self, api_url: str, kubernetes: KubernetesApi) -> None:
        self.api_url = api_url
        self.kubernetes = kubernetes
        self._client = SyncPrefectClient(api_url)  # retries requests that a busy SQLite refuses
        self._flow_id = self._client.create_flow_from_name("refused")

    def run(self, kind: str = "PENDING", name: str = "Submitting") -> str:
        """Create a flow run in a state and return its id."""
        state = {"type": kind, "name": name, "message": "as before"}
        body = {"flow_id": str(self._flow_id), "state": state}
        return str(self._client.request("POST", "/flow_runs/", json=body).json()["id"])

    def state(self, run: str) -> tuple[str, str]:
        """Return the name and the message of a run's state."""
        state = self._client.read_flow_run(uuid.UUID(run)).state
        assert state is not None
        return str(state.name), str(state.message)

    def logs(self, run: str) -> list[str]:
        """Return the messages of the run's log, oldest first."""
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        lines = self._client.request("POST", "/logs/filter", json=wanted).json()
        return [line["message"] for line in lines]

    def job(self, run: str, **status: int) -> dict[str, Any]:
        """Create the Job of a run."""
        metadata = {"generateName": "job-", "labels": {"prefect.io/flow-run-id": run}}
        return self.kubernetes.put("jobs", {"metadata": metadata, "status": status})

    def refuse(
        self, event: str, job: dict[str, Any], reason: str, at: str = "", **involved: str
    ) -> None:
        """Create or change the Event `event` to say that a pod of `job` is refused.

        The worker handles changes of one Event in order. `involved` overrides fields of the
        reference to the Job.
        """
        metadata = job["metadata"]
        reference = {
            "kind": "Job",
            **{key: metadata[key] for key in ("name", "namespace", "uid")},
            **involved,
        }
        pod = f"{metadata['name']}-{uuid.uuid4().hex[:5]}"
        self.kubernetes.put(
            "events",
            {
                "metadata": {"name": event},
                "involvedObject": reference,
                "reason": "FailedCreate",
                "lastTimestamp": at,
                "message": f'Error creating: pods "{pod}" is forbidden: {reason}',
            },
        )

    def await_logs(self, run: str, count: int) -> list[str]:
        """Wait until the run's log has `count` lines, and return it."""
        assert wait_until(lambda: len(self.logs(run)) >= count, WITHIN), self.logs(run)
        return self.logs(run)

    def await_state(self, run: str, name: str) -> str:
        """Wait until the run's state is `name`, and return the state's message."""
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


def test_each_reason_is_logged_once_and_the_first_one_is_in_the_state(platform: Platform) -> None:
    run = platform.run()
    job = platform.job(run)
    sentence = (
        f"Kubernetes refuses to create a pod for the Job {NAMESPACE}/{job['metadata']['name']}: "
    )

    for _ in range(3):
        platform.refuse("one", job, POLICY)
    platform.refuse("one", job, OTHER_POLICY)

    logged = platform.await_logs(run, 2)
    assert logged == [sentence + POLICY, sentence + OTHER_POLICY]
    assert platform.state(run) == (POD_REFUSED, logged[0])


def test_the_state_tells_a_refusal_from_a_quota_without_room_whenever_that_changes(
    platform: Platform,
) -> None:
    run = platform.run()
    job = platform.job(run)
    place = f"{NAMESPACE}/{job['metadata']['name']}"

    for used in range(20, 24):
        platform.refuse("one", job, QUOTA.format(used=used), at=f"2026-01-01T00:00:{used}Z")
    waits = f"The Job {place} waits for room in its quota: {QUOTA.format(used=20)}"
    assert platform.await_state(run, waiting_reasons.QUOTA) == waits

    platform.refuse("two", job, POLICY, at="2026-01-01T00:01:00Z")
    platform.await_state(run, POD_REFUSED)
    platform.refuse("one", job, QUOTA.format(used=20), at="2026-01-01T00:02:00Z")
    platform.await_state(run, waiting_reasons.QUOTA)
    platform.refuse("old", job, POLICY, at="2026-01-01T00:01:30Z")
    platform.refuse("old", job, OTHER_POLICY, at="2026-01-01T00:03:00Z")
    platform.await_state(run, POD_REFUSED)
    assert len(platform.await_logs(run, 4)) == 4


def test_only_events_of_refused_pods_are_requested(platform: Platform) -> None:
    asked = [urlsplit(request) for request in platform.kubernetes.requests if "/events" in request]

    selector = ["involvedObject.kind=Job,reason=FailedCreate"]
    assert asked
    assert all(parse_qs(url.query).get("fieldSelector") == selector for url in asked)


def test_the_state_no_longer_states_the_reason_once_a_pod_is_created(platform: Platform) -> None:
    run = platform.run()
    platform.refuse("late", platform.job(run), POLICY)
    platform.await_state(run, POD_REFUSED)

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
    ("status", "involved"), [({"active": 1}, {}), ({}, {"uid": "of-an-earlier-job"})]
)
def test_an_outdated_event_is_ignored(
    platform: Platform, status: dict[str, int], involved: dict[str, str]
) -> None:
    run, waiting = platform.run(), platform.run()
    event = f"outdated-{run}"

    platform.refuse(event, platform.job(run, **status), POLICY, **involved)
    platform.refuse(event, platform.job(waiting), POLICY)

    platform.await_logs(waiting, 1)
    assert platform.state(run) == ("Submitting", "as before")


def test_events_without_a_run_do_not_block_later_events(platform: Platform) -> None:
    waiting = platform.run()
    deleted = platform.job(str(uuid.uuid4()))
    without_label = platform.kubernetes.put("jobs", {"metadata": {"name": "other"}, "status": {}})

    platform.refuse("nobody", deleted, POLICY)
    platform.refuse("nobody", without_label, POLICY)
    platform.refuse("nobody", deleted, POLICY, name="gone")
    platform.refuse("nobody", platform.job(waiting), POLICY)

    assert len(platform.await_logs(waiting, 1)) == 1


def test_a_second_worker_does_not_repeat_the_first_reason(
    platform: Platform, tmp_path: Path
) -> None:
    run = platform.run()
    job = platform.job(run)
    platform.refuse("shared", job, OTHER_POLICY)
    platform.await_logs(run, 1)

    api_url, kubernetes = platform.api_url, platform.kubernetes
    with watching_worker(api_url, kubernetes, tmp_path / "second", "second"):
        platform.refuse("shared", job, POLICY)

        logged = platform.await_logs(run, 3)

    assert ["maximum" in line for line in logged] == [True, False, False]


def test_a_run_that_has_started_meanwhile_is_never_set_back_to_pending(platform: Platform) -> None:
    run = platform.run("RUNNING", "Running")

    async def propose() -> bool:
        async with PrefectClient(platform.api_url) as client:
            reason = WaitingReason(POD_REFUSED, "too late")
            return await waiting_states.propose(client, uuid.UUID(run), reason)

    assert asyncio.run(propose()) is False
    assert platform.state(run) == ("Running", "as before")


def test_a_changed_limit_is_a_new_reason_but_a_changed_usage_is_not() -> None:
    reason = pod_refusals.distinct(QUOTA.format(used=20))

    assert pod_refusals.distinct(QUOTA.format(used=7)) == reason
    assert pod_refusals.distinct(QUOTA.format(used=20).replace("=20", "=30")) != reason
