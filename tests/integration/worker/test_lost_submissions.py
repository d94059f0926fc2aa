"""A run whose worker is lost before it creates the Job is given back, and gets exactly one Job."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import (
    ConcurrencyLimitStrategy,
    ConcurrencyOptions,
    StateType,
)
from prefect.states import Cancelled, Completed, Running

from prefect_platform.polling import wait_until
from tests.integration.reaper.reaped_pool import ReapedPool
from tests.integration.worker.worker_program import (
    IMPATIENT,
    POOL,
    WITHIN,
    Worker,
    prefect_server,
    starting_worker,
)
from tests.support.kubernetes_api import KubernetesApi, fake_kubernetes

# Stops the program until there is a file: before Prefect puts the worker's name on the run, or
# right before the program checks the run and creates the Job.
_STALLED = """
from pathlib import Path
import anyio
from prefect.workers.base import BaseWorker
from prefect_platform.worker import submission

def stall(owner, name):
    wanted = getattr(owner, name)

    async def later(*arguments):
        Path("{directory}/stalled").touch()
        while not Path("{directory}/released").exists():
            await anyio.sleep(0.1)
        return await wanted(*arguments)

    setattr(owner, name, later)

stall({place})
"""
_BEFORE_THE_LABEL = 'BaseWorker, "_give_worker_labels_to_flow_run"'
_BEFORE_THE_JOB = 'submission, "is_given_back"'


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesApi]:
    with fake_kubernetes(tmp_path / "kubeconfig") as api:
        yield api


@pytest.fixture
def pool(api_url: str, kubernetes: KubernetesApi) -> ReapedPool:
    client = SyncPrefectClient(api_url)
    return ReapedPool(api_url, kubernetes, client, client.read_work_pool(POOL))


@pytest.fixture
def deployment(pool: ReapedPool, request: pytest.FixtureRequest) -> Iterator[UUID]:
    """A deployment that may have one run at a time, and cancels others."""
    yield pool.client.create_deployment(
        pool.client.create_flow_from_name("one-at-a-time"),
        name=request.node.name,
        work_pool_name=POOL,
        entrypoint="flow.py:flow",
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(
            collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        enforce_parameter_schema=False,
    )
    for run in pool.client.read_flow_runs():
        pool.client.delete_flow_run(run.id)  # a pass covers all runs of the pool


@contextmanager
def stalled_worker(
    pool: ReapedPool, directory: Path, place: str = _BEFORE_THE_JOB
) -> Iterator[Worker]:
    """Start a worker that stalls at a place, until `directory`/released exists."""
    stalled = _STALLED.format(directory=directory, place=place)
    program = ("-c", IMPATIENT.format(more=stalled))
    with starting_worker(
        pool.api_url, pool.kubernetes, directory / "stalling", "stalling", *program
    ) as worker:
        assert wait_until((directory / "stalled").exists, WITHIN), worker.log.read_text()
        yield worker


def started(pool: ReapedPool, deployment: UUID) -> UUID:
    return pool.client.create_flow_run_from_deployment(deployment).id


def has_job(pool: ReapedPool, run: UUID) -> bool:
    return pool.client.read_flow_run(run).infrastructure_pid is not None


def give_back(pool: ReapedPool) -> dict[str, int]:
    """Make a pass of the reaper, as if more than its period for submissions had passed."""
    return pool.reap(submission=300, later=600)


def test_the_run_of_a_killed_worker_is_given_back_and_the_next_runs_of_its_deployment_start(
    pool: ReapedPool, deployment: UUID, tmp_path: Path
) -> None:
    lost = started(pool, deployment)
    with stalled_worker(pool, tmp_path) as worker:
        worker.process.kill()
    with starting_worker(pool.api_url, pool.kubernetes, tmp_path / "second", "second"):
        refused = started(pool, deployment)
        assert wait_until(lambda: pool.state(refused)[0] == "Cancelled", WITHIN)
        assert pool.state(lost)[0] == "Submitting"

        assert give_back(pool) == {"run_given_back": 1}

        assert wait_until(lambda: has_job(pool, lost), WITHIN)
        pool.client.set_flow_run_state(lost, Running())
        pool.client.set_flow_run_state(lost, Completed())
        following = started(pool, deployment)
        assert wait_until(lambda: has_job(pool, following), WITHIN)
    assert len(pool.jobs()) == 2
    (given_back,) = [
        state
        for state in pool.client.read_flow_run_states(lost)
        if state.type == StateType.SCHEDULED and state.message
    ]
    assert "the worker that took it was probably stopped" in str(given_back.message)


@pytest.mark.parametrize("place", [_BEFORE_THE_LABEL, _BEFORE_THE_JOB], ids=["label", "job"])
def test_a_worker_that_was_only_slow_creates_no_second_job(
    pool: ReapedPool, deployment: UUID, tmp_path: Path, place: str
) -> None:
    run = started(pool, deployment)
    with stalled_worker(pool, tmp_path, place) as slow:
        assert give_back(pool) == {"run_given_back": 1}
        with starting_worker(pool.api_url, pool.kubernetes, tmp_path / "second", "second"):
            assert wait_until(lambda: has_job(pool, run), WITHIN)
            (job,) = pool.jobs()

            (tmp_path / "released").touch()
            assert wait_until(lambda: "creates no Job" in slow.log.read_text(), WITHIN)

    assert pool.jobs() == {job}
    assert str(pool.client.read_flow_run(run).infrastructure_pid).endswith(job)
    assert pool.state(run)[0] == "Submitting"


def test_a_slow_worker_creates_no_job_for_a_run_that_was_cancelled_meanwhile(
    pool: ReapedPool, deployment: UUID, tmp_path: Path
) -> None:
    run = started(pool, deployment)
    with stalled_worker(pool, tmp_path) as slow:
        assert give_back(pool) == {"run_given_back": 1}
        pool.client.set_flow_run_state(run, Cancelled())

        (tmp_path / "released").touch()
        assert wait_until(lambda: "creates no Job" in slow.log.read_text(), WITHIN)

    assert pool.jobs() == set()
