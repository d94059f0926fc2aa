"""A slot is released exactly when its lease cannot have been stored."""

import asyncio
import sqlite3
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from prefect.server.concurrency.lease_storage import ConcurrencyLimitLeaseMetadata
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - Redis calls it that
    NoPermissionError,
    OutOfMemoryError,
)

from prefect_platform.plugins import slot_leases

LIMITS = [uuid4(), uuid4()]


class Redis:
    """A client that answers, or fails with `error`."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def ping(self) -> None:
        if self._error:
            raise self._error


class Storage:
    """A storage that fails with `error`, and its client of Redis with `unreachable`."""

    def __init__(self, error: Exception, unreachable: Exception | None) -> None:
        self.redis_client = Redis(unreachable)
        self._error = error

    async def create_lease(self, *_: object) -> None:
        raise self._error

    async def read_active_lease_ids(self, *_: object) -> list[UUID]:
        return []


def released(
    monkeypatch: pytest.MonkeyPatch, error: Exception, unreachable: Exception | None = None
) -> list[tuple[list[UUID], int]]:
    """Return the limits and slots that are released when two slots of two limits are taken."""
    found: list[tuple[list[UUID], int]] = []

    async def record(limits: list[UUID], slots: int) -> None:
        found.append((limits, slots))

    storage = Storage(error, unreachable)
    monkeypatch.setattr(slot_leases, "get_concurrency_lease_storage", lambda: storage)
    monkeypatch.setattr(slot_leases, "_release", record)
    with pytest.raises(type(unreachable or error)):
        asyncio.run(
            slot_leases._storage().create_lease(
                LIMITS, timedelta(minutes=5), ConcurrencyLimitLeaseMetadata(slots=2)
            )
        )
    return found


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("of the volume")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "unreachable"),
    [
        (OutOfMemoryError("OOM command not allowed"), None),
        (sqlite_error(sqlite3.SQLITE_FULL), None),
        (ConnectionError("lost"), ConnectionError("refused")),
        (ConnectionError("lost"), BusyLoadingError("LOADING")),
    ],
    ids=["Redis is full", "the volume is full", "no connection", "Redis starts"],
)
def test_the_slots_of_a_lease_that_was_not_stored_are_released_once(
    monkeypatch: pytest.MonkeyPatch, error: Exception, unreachable: Exception | None
) -> None:
    assert released(monkeypatch, error, unreachable) == [(LIMITS, 2)]


@pytest.mark.parametrize(
    "error",
    [ConnectionError("lost"), NoPermissionError("NOPERM"), sqlite_error(sqlite3.SQLITE_IOERR)],
    ids=["the connection was lost", "a key is not permitted", "the disk has an error"],
)
def test_the_slots_of_a_lease_that_may_have_been_stored_stay_taken(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert released(monkeypatch, error) == []


def test_a_reset_that_cannot_store_a_lease_undoes_its_slots_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = OutOfMemoryError("OOM command not allowed")
    found: list[list[UUID]] = []

    async def record(limits: list[UUID], _slots: int) -> None:
        found.append(limits)

    async def reset() -> None:
        storage = slot_leases._storage_of_older_clients()
        await storage.read_active_lease_ids()
        await storage.create_lease(LIMITS, timedelta(days=1))

    monkeypatch.setattr(slot_leases, "get_concurrency_lease_storage", lambda: Storage(full, None))
    monkeypatch.setattr(slot_leases, "_release", record)
    with pytest.raises(OutOfMemoryError):
        asyncio.run(reset())
    assert found == []
