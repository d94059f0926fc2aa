"""The slot of a deployment is kept by a run that waits, and is freed once."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Pending, Running

from prefect_platform.server.lease_storage import FILE_VARIABLE
from tests.integration.reaper.reaped_pool import ReapedPool
from tests.support.kubernetes_api import fake_kubernetes
from tests.support.servers import prefect_server


@pytest.fixture(scope="module")
def leases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leases") / "leases.db"


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory, leases: Path) -> Iterator[str]:
    settings = {
        "PREFECT_PLUGINS_ENABLED": "true",
        "PREFECT_PLUGINS_ALLOW": "deployment-slots",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_platform.server.lease_storage",
        FILE_VARIABLE: str(leases),
    }
    with prefect_server(tmp_path_factory.mktemp("server"), **settings) as url:
        yield url


@pytest.fixture
def prefect(api_url: str) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(api_url) as client:
        yield client


@pytest.fixture
def deployment(prefect: SyncPrefectClient) -> UUID:
    """A deployment that may have one run at a time."""
    return prefect.create_deployment(
        prefect.create_flow_from_name("limited"),
        name=uuid4().hex,
        concurrency_limit=1,
        enforce_parameter_schema=False,
    )


def taken(prefect: SyncPrefectClient, deployment: UUID) -> int:
    return prefect.read_global_concurrency_limit_by_name(f"deployment:{deployment}").active_slots


def pending(prefect: SyncPrefectClient, deployment: UUID) -> FlowRun:
    """Create a run that has taken the slot."""
    run = prefect.create_flow_run_from_deployment(deployment)
    prefect.set_flow_run_state(run.id, Pending())
    assert taken(prefect, deployment) == 1
    return prefect.read_flow_run(run.id)


def lease_of(run: FlowRun) -> UUID:
    assert run.state is not None
    lease = run.state.state_details.deployment_concurrency_lease_id
    assert lease is not None
    return lease


def expire(leases: Path, run: FlowRun) -> None:
    """Let the lease of a run expire; the server does not look for such leases at first."""
    with closing(sqlite3.connect(leases)) as database, database:
        expired = "UPDATE lease SET expiration = 0 WHERE id = ?"
        assert database.execute(expired, (str(lease_of(run)),)).rowcount == 1


def seconds_left(leases: Path, run: FlowRun) -> float:
    with closing(sqlite3.connect(leases)) as database:
        found = "SELECT expiration FROM lease WHERE id = ?"
        ((expiration,),) = database.execute(found, (str(lease_of(run)),)).fetchall()
    return float(expiration) - time.time()


def test_a_run_whose_lease_has_expired_does_not_free_the_slot_of_the_next_run(
    prefect: SyncPrefectClient, deployment: UUID
) -> None:
    waiting = pending(prefect, deployment)
    # What the server does when the lease expires.
    prefect.release_concurrency_slots_with_lease(lease_of(waiting))
    following = pending(prefect, deployment)
    prefect.set_flow_run_state(following.id, Running())

    prefect.set_flow_run_state(waiting.id, Crashed())
    assert taken(prefect, deployment) == 1
    prefect.set_flow_run_state(following.id, Completed())
    assert taken(prefect, deployment) == 0


def test_no_third_run_starts_while_the_lease_of_the_second_has_expired_but_may_be_renewed(
    prefect: SyncPrefectClient, deployment: UUID, leases: Path
) -> None:
    waiting = pending(prefect, deployment)
    prefect.release_concurrency_slots_with_lease(lease_of(waiting))
    following = pending(prefect, deployment)
    expire(leases, following)
    prefect.set_flow_run_state(waiting.id, Crashed())

    third = prefect.create_flow_run_from_deployment(deployment)
    prefect.set_flow_run_state(third.id, Pending())
    prefect.set_flow_run_state(following.id, Running())

    states = [prefect.read_flow_run(run.id).state_name for run in (following, third)]
    assert states == ["Running", "AwaitingConcurrencySlot"]


def test_the_reaper_renews_the_slot_of_a_run_whose_job_waits_for_room(
    prefect: SyncPrefectClient, api_url: str, leases: Path, tmp_path: Path
) -> None:
    with fake_kubernetes(tmp_path / "kubeconfig") as kubernetes:
        reaped = ReapedPool.create(api_url, kubernetes)
        deployment = prefect.create_deployment(
            prefect.create_flow_from_name("limited"),
            name=uuid4().hex,
            work_pool_name=reaped.pool.name,
            concurrency_limit=1,
            enforce_parameter_schema=False,
        )
        waiting = pending(prefect, deployment)
        expire(leases, waiting)

        assert reaped.reap() == {}
        assert seconds_left(leases, waiting) < 0, "without a Job, nothing shows that it waits"
        reaped.job(waiting.id, "waits")
        prefect.set_flow_run_state(waiting.id, Pending(name="WaitingForQuota"))
        assert reaped.reap() == {}
        assert seconds_left(leases, waiting) > 3000

        prefect.release_concurrency_slots_with_lease(lease_of(waiting))
        assert reaped.reap() == {}, "a slot that is lost is no failure of the pass"


def test_a_run_whose_lease_was_lost_frees_its_slot(
    prefect: SyncPrefectClient, deployment: UUID, leases: Path
) -> None:
    run = pending(prefect, deployment)
    prefect.set_flow_run_state(run.id, Running())
    with closing(sqlite3.connect(leases)) as database, database:
        database.execute("DELETE FROM lease")

    prefect.set_flow_run_state(run.id, Completed())

    assert taken(prefect, deployment) == 0
