"""A worker takes a run when the API reports that it can start, long before its next poll."""

from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.states import AwaitingRetry, Completed

from prefect_platform.polling import wait_until
from tests.integration.worker.worker_program import (
    POOL,
    WITHIN,
    prefect_server,
    scheduled_run,
    starting_worker,
)
from tests.support.kubernetes_api import KubernetesApi, fake_kubernetes

_NEVER = 10_000  # seconds between two polls


def assert_jobs(kubernetes: KubernetesApi, *runs: UUID) -> None:
    def of_runs() -> list[str]:
        jobs = kubernetes.objects["jobs"].values()
        return [job["metadata"]["labels"]["prefect.io/flow-run-id"] for job in jobs]

    expected = sorted(map(str, runs))
    assert wait_until(lambda: sorted(of_runs()) == expected, WITHIN), (of_runs(), expected)


def test_a_run_is_taken_when_it_is_scheduled_and_when_it_is_scheduled_again(tmp_path: Path) -> None:
    with (
        prefect_server(tmp_path) as api_url,
        fake_kubernetes(tmp_path / "kubeconfig") as kubernetes,
        SyncPrefectClient(api_url) as client,
    ):
        of_first_poll = scheduled_run(client)
        with starting_worker(
            api_url, kubernetes, tmp_path / "worker", "worker", query_seconds=_NEVER
        ):
            assert_jobs(kubernetes, of_first_poll)

            reported = scheduled_run(client)
            assert_jobs(kubernetes, of_first_poll, reported)

            client.set_flow_run_state(reported, AwaitingRetry(), force=True)
            assert_jobs(kubernetes, of_first_poll, reported, reported)


def test_a_run_that_waits_for_a_slot_of_the_pool_is_taken_when_the_slot_is_released(
    tmp_path: Path,
) -> None:
    with (
        prefect_server(tmp_path) as api_url,
        fake_kubernetes(tmp_path / "kubeconfig") as kubernetes,
        SyncPrefectClient(api_url) as client,
    ):
        client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=1))
        first, second = scheduled_run(client), scheduled_run(client)
        with starting_worker(
            api_url, kubernetes, tmp_path / "worker", "worker", query_seconds=_NEVER
        ):
            assert_jobs(kubernetes, first)

            client.set_flow_run_state(first, Completed(), force=True)
            assert_jobs(kubernetes, first, second)
