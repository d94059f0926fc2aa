"""A run whose pod was stopped is started again if that can help, up to a maximum of starts."""

from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Running

from prefect_platform.polling import wait_until
from tests.integration.worker.worker_program import (
    MAX_STARTS,
    WITHIN,
    prefect_server,
    scheduled_run,
    watching_worker,
)
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi, fake_kubernetes

VOLUME_FULL = 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". '
NODE_UNDER_PRESSURE = (
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 9Mi. "
)


class Run:
    """A flow run and its pods; methods do what the kubelet and the process in the pod would do."""

    def __init__(self, client: SyncPrefectClient, kubernetes: KubernetesApi) -> None:
        self._client, self._kubernetes = client, kubernetes
        self.id = scheduled_run(client)

    def jobs(self) -> list[str]:
        """Return the names of its Jobs, oldest first."""
        jobs = self._kubernetes.objects["jobs"].values()
        mine = [
            each["metadata"] for each in jobs if str(self.id) in each["metadata"]["labels"].values()
        ]
        return [metadata["name"] for metadata in mine]

    def await_start(self, times: int) -> str:
        """Wait until the run was started `times` times, set it to Running, and return its pod."""

        def recorded() -> bool:
            pid = self._client.read_flow_run(self.id).infrastructure_pid
            jobs = self.jobs()
            return len(jobs) == times and pid == f"{NAMESPACE}:{jobs[-1]}"

        assert wait_until(recorded, WITHIN), (self.jobs(), self.state())
        self.set_state(Running())
        return self.set_pod_status({"phase": "Running"})

    def set_pod_status(self, status: dict[str, str]) -> str:
        """Give the pod of the last Job a status, and return the pod's name."""
        job = self.jobs()[-1]
        labels = {"prefect.io/flow-run-id": str(self.id), "batch.kubernetes.io/job-name": job}
        metadata = {
            "name": f"{job}-pod",
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        self._kubernetes.put("pods", {"metadata": metadata, "status": status})
        return f"{NAMESPACE}/{job}-pod"

    def evict(self, message: str) -> None:
        """Evict the last pod, as the kubelet does."""
        self.set_pod_status({"phase": "Failed", "reason": "Evicted", "message": message})

    def set_state(self, state: State[Any]) -> None:
        """Set the state of the run, as its own process does."""
        self._client.set_flow_run_state(self.id, state)

    def state(self) -> tuple[str, str]:
        """Return the name and the message of its state."""
        state = self._client.read_flow_run(self.id).state
        assert state is not None
        return str(state.name), str(state.message)

    def await_state(self, name: str) -> str:
        """Wait until its state is `name`, and return the state's message."""
        assert wait_until(lambda: self.state()[0] == name, WITHIN), self.state()
        return self.state()[1]


class Platform:
    """A Prefect server and a fake Kubernetes, for a worker that connects to both."""

    def __init__(self, api_url: str, kubernetes: KubernetesApi) -> None:
        self.api_url, self.kubernetes = api_url, kubernetes
        self.client = SyncPrefectClient(api_url)  # retries requests that a busy SQLite refuses

    def run(self) -> Run:
        """Create a run that the worker will pick up."""
        return Run(self.client, self.kubernetes)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("platform")
    with ExitStack() as stack:
        api_url = stack.enter_context(prefect_server(home))
        kubernetes = stack.enter_context(fake_kubernetes(home / "kubeconfig"))
        yield Platform(api_url, kubernetes)


@pytest.fixture(scope="module")
def platform(server: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    directory = tmp_path_factory.mktemp("worker") / "w"
    with watching_worker(server.api_url, server.kubernetes, directory, "w"):
        yield server


def excess_message(pod: str, message: str) -> str:
    """Return the message of the final state of a run whose pod exceeded a limit of its own."""
    return (
        f"Kubernetes evicted the pod {pod} because it exceeded its own limit: {message.strip()} "
        "The run is not started again, because it would exceed the limit again. Next step: let "
        "the flow write less, or raise jobs.tmpSizeLimit of the chart prefect-worker, then start "
        "the run again."
    )


# This test comes first: the worker of the other tests would poll the same pool.
def test_an_evicted_run_is_started_at_most_max_starts_times_by_all_workers_together(
    server: Platform, tmp_path: Path
) -> None:
    run = server.run()
    with watching_worker(server.api_url, server.kubernetes, tmp_path / "first", "first"):
        for time in range(1, MAX_STARTS):
            run.await_start(time)
            run.evict(NODE_UNDER_PRESSURE)
            run.set_state(AwaitingRetry())
        pod = run.await_start(MAX_STARTS)
    run.evict(NODE_UNDER_PRESSURE)
    run.set_state(AwaitingRetry())
    with watching_worker(server.api_url, server.kubernetes, tmp_path / "second", "second"):
        message = run.await_state("Crashed")

    job = run.jobs()[-1]
    assert message.startswith(
        f"The run was started {MAX_STARTS} times, and each time its pod was stopped from outside. "
        f"The last Job was {NAMESPACE}/{job} (pod {pod.rpartition('/')[2]}: The node was"
    )
    assert len(run.jobs()) == MAX_STARTS


def test_a_run_that_exceeded_its_own_limit_is_not_started_again_until_a_person_restarts_it(
    platform: Platform,
) -> None:
    run = platform.run()
    pod = run.await_start(1)
    run.set_state(AwaitingRetry())
    asked = f"job-name%3D{run.jobs()[0]}"
    # The pod is still terminating, so the reason is not known yet.
    assert wait_until(lambda: any(asked in each for each in platform.kubernetes.requests), WITHIN)
    run.evict(VOLUME_FULL)

    assert run.await_state("Crashed") == excess_message(pod, VOLUME_FULL)
    assert len(run.jobs()) == 1

    run.set_state(AwaitingRetry(message="by a person"))
    run.await_start(2)


def test_a_run_whose_process_was_killed_before_rescheduling_it_ends_with_the_same_message(
    platform: Platform,
) -> None:
    run, other = platform.run(), platform.run()
    pod = run.await_start(1)
    other.await_start(1)
    # This one is left to Prefect's observer, which waits until the Job has ended.
    other.evict(NODE_UNDER_PRESSURE)
    run.evict(VOLUME_FULL)

    assert run.await_state("Crashed") == excess_message(pod, VOLUME_FULL)
    assert other.state()[0] == "Running"


def test_the_pod_of_an_earlier_start_does_not_crash_a_run_that_was_started_again(
    platform: Platform, tmp_path: Path
) -> None:
    run = platform.run()
    run.await_start(1)
    run.evict(VOLUME_FULL)
    run.await_state("Crashed")
    run.set_state(AwaitingRetry())
    run.await_start(2)
    other = platform.run()
    other.await_start(1)

    with watching_worker(platform.api_url, platform.kubernetes, tmp_path / "second", "second"):
        # By now the second worker has found the earlier pod.
        other.evict(VOLUME_FULL)
        other.await_state("Crashed")

    assert run.state()[0] == "Running"


def test_a_run_is_started_again_if_kubernetes_does_not_report_how_its_pod_ended(
    platform: Platform,
) -> None:
    run = platform.run()
    run.await_start(1)
    platform.kubernetes.refuse("pods", status=HTTPStatus.FORBIDDEN)
    run.set_state(AwaitingRetry())

    try:
        run.await_start(2)
    finally:
        platform.kubernetes.accept()
