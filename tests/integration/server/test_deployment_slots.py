"""The slot of a deployment is freed once, whether its lease has expired or was lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Pending, Running

from prefect_platform.server.lease_storage import FILE_VARIABLE
from tests.support.servers import prefect_server


@pytest.fixture(scope="module")
def leases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leases") / "leases.db"


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory, leases: Path) -> Iterator[SyncPrefectClient]:
    settings = {
        "PREFECT_PLUGINS_ENABLED": "true",
        "PREFECT_PLUGINS_ALLOW": "deployment-slots",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_platform.server.lease_storage",
        FILE_VARIABLE: str(leases),
    }
    with (
        prefect_server(tmp_path_factory.mktemp("server"), **settings) as url,
        SyncPrefectClient(url) as client,
    ):
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


def test_a_run_whose_lease_has_expired_does_not_free_the_slot_of_the_next_run(
    prefect: SyncPrefectClient, deployment: UUID
) -> None:
    waiting = pending(prefect, deployment)
    assert waiting.state is not None
    lease = waiting.state.state_details.deployment_concurrency_lease_id
    assert lease is not None
    # What the server does when the lease expires.
    prefect.release_concurrency_slots_with_lease(lease)
    following = pending(prefect, deployment)
    prefect.set_flow_run_state(following.id, Running())

    prefect.set_flow_run_state(waiting.id, Crashed())
    assert taken(prefect, deployment) == 1
    prefect.set_flow_run_state(following.id, Completed())
    assert taken(prefect, deployment) == 0


def test_a_run_whose_lease_was_lost_frees_its_slot(
    prefect: SyncPrefectClient, deployment: UUID, leases: Path
) -> None:
    run = pending(prefect, deployment)
    prefect.set_flow_run_state(run.id, Running())
    with closing(sqlite3.connect(leases)) as database, database:
        database.execute("DELETE FROM lease")

    prefect.set_flow_run_state(run.id, Completed())

    assert taken(prefect, deployment) == 0
