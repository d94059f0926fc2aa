"""Leases of concurrency slots, stored on a volume that outlives the API's pod, for mode `single`.

By default Prefect keeps leases in memory. After a restart, a run could neither renew its lease nor
release it: a limited deployment would cancel its run, and the slots would stay taken. SQLite
survives a kill or a power cut at any moment, and lets a pod that is being drained and its successor
use the volume together.
"""

import asyncio
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from prefect.server.concurrency import lease_storage
from prefect.server.concurrency.lease_storage import ConcurrencyLimitLeaseMetadata
from prefect.server.utilities.leasing import ResourceLease
from prefect.types._concurrency import ConcurrencyLeaseHolder
from pydantic import TypeAdapter

FILE_VARIABLE = "CONCURRENCY_LEASE_FILE"
_RENEWAL_SECONDS = 300.0
_STARTED = time.monotonic()
# A commit waits for the disk. One thread, because SQLite has one writer at a time.
_THREAD = ThreadPoolExecutor(1, "leases")

# Revoked leases that the volume had no room to delete.
_revoked: set[str] = set()

Lease = ResourceLease[ConcurrencyLimitLeaseMetadata]
_LEASE = TypeAdapter(Lease)


class ConcurrencyLeaseStorage(lease_storage.ConcurrencyLeaseStorage):
    """Prefect's interface; the class has the name that Prefect looks for.

    Every method but `revoke_lease` raises an error of sqlite3 if the volume cannot be read or
    written.
    """

    async def create_lease(
        self,
        resource_ids: list[UUID],
        ttl: timedelta,
        metadata: ConcurrencyLimitLeaseMetadata | None = None,
    ) -> Lease:
        """Store a new lease, and return it."""
        lease = Lease(resource_ids, datetime.now(UTC) + ttl, metadata=metadata)
        row = (str(lease.id), lease.expiration.timestamp(), _LEASE.dump_json(lease))
        await _change("INSERT INTO lease VALUES (?, ?, ?)", *row)
        return lease

    async def read_lease(self, lease_id: UUID) -> Lease | None:
        """Return the lease, even if it has expired, or None if it does not exist."""
        found = await _leases("id = ?", str(lease_id))
        return found[0] if found else None

    async def renew_lease(self, lease_id: UUID, ttl: timedelta) -> bool:
        """Return whether the lease existed, and was renewed."""
        expiration = (datetime.now(UTC) + ttl).timestamp()
        if str(lease_id) in _revoked:
            return False
        renewed = "UPDATE lease SET expiration = ? WHERE id = ?"
        return await _change(renewed, expiration, str(lease_id)) == 1

    async def revoke_lease(self, lease_id: UUID) -> None:
        """Delete the lease, if it exists; if the volume is full, when it has room again.

        Prefect has already freed the slots of the lease. If this failed, the client would repeat
        its request, and each time Prefect would free as many slots of other holders. Until there is
        room, only the memory of this process knows that the lease is revoked. After a restart, the
        lease expires, and Prefect frees its slots a second time.
        """
        _revoked.add(str(lease_id))
        with suppress(sqlite3.Error):
            await _delete_revoked()

    async def read_active_lease_ids(self, limit: int = 100, offset: int = 0) -> list[UUID]:
        """Return leases that have not expired."""
        return [lease.id for lease in (await _active())[offset : offset + limit]]

    async def read_expired_lease_ids(self, limit: int = 100) -> list[UUID]:
        """Return leases that have expired, but none in the first minutes of the server.

        No run could renew its lease while the server was down. An expired lease can be renewed as
        long as it exists.
        """
        if time.monotonic() - _STARTED < _RENEWAL_SECONDS:
            return []
        return [lease.id for lease in (await _leases("expiration <= ?", _now()))[:limit]]

    async def list_holders_for_limit(
        self, limit_id: UUID
    ) -> list[tuple[UUID, ConcurrencyLeaseHolder]]:
        """Return the leases of the limit that name a holder and have not expired."""
        return [
            (lease.id, lease.metadata.holder)
            for lease in await _active()
            if limit_id in lease.resource_ids and lease.metadata and lease.metadata.holder
        ]


def _now() -> float:
    return datetime.now(UTC).timestamp()


async def _active() -> list[Lease]:
    return await _leases("expiration > ?", _now())


async def _leases(condition: str, value: str | float) -> list[Lease]:
    leases = []
    query = "SELECT expiration, content FROM lease WHERE "
    for expiration, content in (await _execute(query + condition, value))[0]:
        lease = _LEASE.validate_json(content)
        if str(lease.id) in _revoked:
            continue
        lease.expiration = datetime.fromtimestamp(expiration, UTC)
        leases.append(lease)
    return leases


async def _change(statement: str, *values: str | float | bytes) -> int:
    """Make a change, and return how many leases it concerns."""
    await _delete_revoked()
    return (await _execute(statement, *values))[1]


async def _delete_revoked() -> None:
    for lease_id in tuple(_revoked):
        await _execute("DELETE FROM lease WHERE id = ?", lease_id)
        _revoked.discard(lease_id)


async def _execute(statement: str, *values: str | float | bytes) -> tuple[list[Any], int]:
    work = partial(_transaction, statement, values)
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


def _transaction(statement: str, values: tuple[str | float | bytes, ...]) -> tuple[list[Any], int]:
    """Execute one statement in a transaction, which an error undoes; return its rows and count."""
    with closing(sqlite3.connect(os.environ[FILE_VARIABLE])) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS lease (id TEXT PRIMARY KEY, expiration REAL, content BLOB)"
        )
        executed = database.execute(statement, values)
        return executed.fetchall(), executed.rowcount
