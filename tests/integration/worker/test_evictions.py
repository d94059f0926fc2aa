"""A run whose pods are stopped from outside is started again where that helps, within a bound."""

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

FULL = 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". '
NODE_IN_NEED = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 9Mi. "


class Run:
    """A flow run, and its pods as a kubelet and Prefect's process in them would have them."""

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

    def started(self, times: int) -> str:
        """Return the pod's name once the run has been started so often, and let it run there."""

        def noted() -> bool:
            pid = self._client.read_flow_run(self.id).infrastructure_pid
            jobs = self.jobs()
            return len(jobs) == times and pid == f"{NAMESPACE}:{jobs[-1]}"

        assert wait_until(noted, WITHIN), (self.jobs(), self.state())
        self.becomes(Running())
        return self.pod({"phase": "Running"})

    def pod(self, status: dict[str, str]) -> str:
        """Bring the pod of its last Job into a status and return its name."""
        job = self.jobs()[-1]
        labels = {"prefect.io/flow-run-id": str(self.id), "batch.kubernetes.io/job-name": job}
        metadata = {
            "name": f"{job}-pod",
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        self._kubernetes.put("pods", {"metadata": metadata, "status": status})
        return f"{NAMESPACE}/{job}-pod"

    def evicted(self, message: str) -> None:
        """Let the kubelet have evicted the last pod."""
        self.pod({"phase": "Failed", "reason": "Evicted", "message": message})

    def becomes(self, state: State[Any]) -> None:
        """Set its state, as its own process does."""
        self._client.set_flow_run_state(self.id, state)

    def state(self) -> tuple[str, str]:
        """Return name and message of its state."""
        state = self._client.read_flow_run(self.id).state
        assert state is not None
        return str(state.name), str(state.message)

    def is_in(self, name: str) -> str:
        """Return the message of its state once it is called `name`."""
        assert wait_until(lambda: self.state()[0] == name, WITHIN), self.state()
        return self.state()[1]


class Platform:
    """A Prefect server and a Kubernetes; a worker is between them."""

    def __init__(self, api_url: str, kubernetes: KubernetesApi) -> None:
        self.api_url, self.kubernetes = api_url, kubernetes
        self.client = SyncPrefectClient(api_url)  # repeats what a busy SQLite refuses

    def run(self) -> Run:
        """Return a new run that the worker will take."""
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


def sentence(pod: str, message: str) -> str:
    """Return what the last state of a run says whose pod was over a limit of its own."""
    return (
        f"Kubernetes evicted the pod {pod} for its own excess: {message.strip()} The run is not "
        "started again, as it would do the same. Next step: let it write less, or raise "
        "jobs.tmpSizeLimit of the chart prefect-worker, then start the run again."
    )


# The first test, before the worker of the others polls beside its own.
def test_a_run_that_others_stop_is_started_so_often_and_no_more_whichever_worker_does_it(
    server: Platform, tmp_path: Path
) -> None:
    run = server.run()
    with watching_worker(server.api_url, server.kubernetes, tmp_path / "first", "first"):
        for time in range(1, MAX_STARTS):
            run.started(time)
            run.evicted(NODE_IN_NEED)
            run.becomes(AwaitingRetry())
        pod = run.started(MAX_STARTS)
    run.evicted(NODE_IN_NEED)
    run.becomes(AwaitingRetry())
    with watching_worker(server.api_url, server.kubernetes, tmp_path / "second", "second"):
        told = run.is_in("Crashed")

    job = run.jobs()[-1]
    assert told.startswith(
        f"The run was started {MAX_STARTS} times, and each time its pod was stopped from outside. "
        f"The last one was of the Job {NAMESPACE}/{job} (pod {pod.rpartition('/')[2]}: The node was"
    )
    assert len(run.jobs()) == MAX_STARTS


def test_a_run_over_a_limit_of_its_own_ends_at_its_next_start_until_somebody_starts_it_again(
    platform: Platform,
) -> None:
    run = platform.run()
    pod = run.started(1)
    run.becomes(AwaitingRetry())
    asked = f"job-name%3D{run.jobs()[0]}"
    # The pod still ends: nobody can say why as yet.
    assert wait_until(lambda: any(asked in each for each in platform.kubernetes.requests), WITHIN)
    run.evicted(FULL)

    assert run.is_in("Crashed") == sentence(pod, FULL)
    assert len(run.jobs()) == 1

    run.becomes(AwaitingRetry(message="by a person"))
    run.started(2)


def test_a_run_whose_process_was_killed_before_it_scheduled_it_anew_ends_with_the_same_sentence(
    platform: Platform,
) -> None:
    run, other = platform.run(), platform.run()
    pod = run.started(1)
    other.started(1)
    other.evicted(NODE_IN_NEED)  # left to Prefect's observer, which waits for the end of the Job
    run.evicted(FULL)

    assert run.is_in("Crashed") == sentence(pod, FULL)
    assert other.state()[0] == "Running"


def test_a_pod_of_an_earlier_start_says_nothing_about_a_run_that_was_started_again(
    platform: Platform, tmp_path: Path
) -> None:
    run = platform.run()
    run.started(1)
    run.evicted(FULL)
    run.is_in("Crashed")
    run.becomes(AwaitingRetry())
    run.started(2)
    told = platform.run()
    told.started(1)

    with watching_worker(platform.api_url, platform.kubernetes, tmp_path / "second", "second"):
        told.evicted(FULL)  # after the second worker has found the earlier pod
        told.is_in("Crashed")

    assert run.state()[0] == "Running"


def test_a_run_is_started_again_where_kubernetes_does_not_say_what_became_of_its_pod(
    platform: Platform,
) -> None:
    run = platform.run()
    run.started(1)
    platform.kubernetes.refuse("pods", status=HTTPStatus.FORBIDDEN)
    run.becomes(AwaitingRetry())

    try:
        run.started(2)
    finally:
        platform.kubernetes.accept()
