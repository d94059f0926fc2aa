"""In mode single, runs keep the slots of concurrency limits while the API restarts."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.server.concurrency.lease_storage import ConcurrencyLimitLeaseMetadata
from prefect.states import Completed, Pending, Running
from prefect.types._concurrency import ConcurrencyLeaseHolder

from prefect_platform.polling import wait_until
from prefect_platform.server import lease_storage
from prefect_platform.server.lease_storage import FILE_VARIABLE, ConcurrencyLeaseStorage
from tests.support.servers import free_ports, prefect_server
from tests.support.slot_holder import LIMIT, TAG, slot_holder

_HELD = (LIMIT, f"tag:{TAG}")

Server = Callable[[], AbstractContextManager[str]]


@pytest.fixture
def port() -> int:
    (found,) = free_ports(1)
    return found


@pytest.fixture
def server(tmp_path: Path, port: int) -> Server:
    """Return a function that starts the server, each time with the same database and leases."""
    return partial(
        prefect_server,
        tmp_path,
        port,
        PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE="prefect_platform.server.lease_storage",
        **{FILE_VARIABLE: str(tmp_path / "leases.db")},
    )


def create_limits(client: SyncPrefectClient) -> None:
    for name in _HELD:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


def taken(client: SyncPrefectClient, *names: str) -> list[int]:
    return [client.read_global_concurrency_limit_by_name(name).active_slots for name in names]


def test_a_run_keeps_its_slots_when_the_server_restarts_and_frees_them_when_it_ends(
    server: Server, port: int, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{port}/api"
    (folder := tmp_path / "holder").mkdir()
    with SyncPrefectClient(url) as client, ExitStack() as holding:
        with server():
            create_limits(client)
            process, run = holding.enter_context(slot_holder(url, folder))
            assert taken(client, *_HELD) == [1, 1]
        with server():
            assert taken(client, *_HELD) == [1, 1]
            process.communicate("")

            assert client.read_flow_run(run).state_name == "Completed"
            assert taken(client, *_HELD) == [0, 0]


def test_a_run_of_a_limited_deployment_can_renew_its_lease_after_a_restart(
    server: Server, port: int
) -> None:
    with SyncPrefectClient(f"http://127.0.0.1:{port}/api") as client:
        with server():
            deployment = client.create_deployment(
                client.create_flow_from_name("etl"),
                name="daily",
                concurrency_limit=1,
                enforce_parameter_schema=False,
            )
            run = client.create_flow_run_from_deployment(deployment)
            client.set_flow_run_state(run.id, Pending())
            client.set_flow_run_state(run.id, Running())
        with server():
            running = client.read_flow_run(run.id).state
            assert running is not None
            lease = running.state_details.deployment_concurrency_lease_id
            assert lease is not None
            client.renew_concurrency_lease(lease, 60)  # raises an error if the lease was lost
            assert taken(client, f"deployment:{deployment}") == [1]
            client.set_flow_run_state(run.id, Completed())

            assert taken(client, f"deployment:{deployment}") == [0]


@pytest.mark.whole
def test_slots_of_a_process_that_died_during_a_restart_are_freed(
    server: Server, port: int, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{port}/api"
    (folder := tmp_path / "holder").mkdir()
    with SyncPrefectClient(url) as client:
        with server():
            create_limits(client)
            with slot_holder(url, folder):
                assert taken(client, *_HELD) == [1, 1]
        with server():
            assert taken(client, *_HELD) == [1, 1]
            assert wait_until(lambda: taken(client, *_HELD) == [0, 0], 500, every=5)


def test_a_slot_that_is_released_while_the_volume_is_full_frees_no_other_slot(
    server: Server, port: int, tmp_path: Path
) -> None:
    def execute(statement: str) -> list[tuple[int]]:
        with closing(sqlite3.connect(tmp_path / "leases.db")) as database, database:
            return database.execute(statement).fetchall()

    with server(), SyncPrefectClient(f"http://127.0.0.1:{port}/api") as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=2))
        first, second = (
            client.increment_concurrency_slots_with_lease(
                [LIMIT], slots=1, mode="concurrency", lease_duration=60
            ).json()["lease_id"]
            for _ in range(2)
        )
        execute(
            "CREATE TRIGGER no_room BEFORE DELETE ON lease "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
        for _ in range(2):
            client.release_concurrency_slots_with_lease(first)
            assert taken(client, LIMIT) == [1]
        execute("DROP TRIGGER no_room")
        client.release_concurrency_slots_with_lease(second)

        assert taken(client, LIMIT) == [0]
        assert execute("SELECT count(*) FROM lease") == [(0,)]


@pytest.fixture(autouse=True)
def leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "leases.db"))
    monkeypatch.setattr(lease_storage, "_STARTED", time.monotonic())


def test_a_lease_that_expired_while_the_server_was_down_can_still_be_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def expired() -> None:
        storage = ConcurrencyLeaseStorage()
        lease = await storage.create_lease([], timedelta(seconds=-1))
        assert await storage.read_expired_lease_ids() == []
        monkeypatch.setattr(lease_storage, "_RENEWAL_SECONDS", 0)
        assert await storage.read_expired_lease_ids() == [lease.id]
        assert await storage.renew_lease(lease.id, timedelta(minutes=1))
        assert await storage.read_expired_lease_ids() == []
        await storage.revoke_lease(lease.id)
        assert not await storage.renew_lease(lease.id, timedelta(minutes=1))

    asyncio.run(expired())


def test_a_lease_is_read_as_it_was_created() -> None:
    limit, run = uuid4(), uuid4()
    holder = ConcurrencyLeaseHolder(type="flow_run", id=run)

    async def create() -> None:
        storage = ConcurrencyLeaseStorage()
        lease = await storage.create_lease(
            [limit], timedelta(minutes=1), ConcurrencyLimitLeaseMetadata(slots=2, holder=holder)
        )
        assert await storage.read_lease(lease.id) == lease
        assert await storage.list_holders_for_limit(limit) == [(lease.id, holder)]
        assert await storage.list_holders_for_limit(run) == []
        assert await storage.read_active_lease_ids() == [lease.id]
        assert await storage.read_active_lease_ids(offset=1) == []

    asyncio.run(create())


def _create_many(_: int) -> None:
    async def create() -> None:
        for _each in range(50):
            await ConcurrencyLeaseStorage().create_lease([], timedelta(minutes=1))

    asyncio.run(create())


def test_a_draining_pod_and_its_successor_lose_no_lease_of_each_other() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pods:
        list(pods.map(_create_many, range(2)))

    assert len(asyncio.run(ConcurrencyLeaseStorage().read_active_lease_ids(limit=200))) == 100
