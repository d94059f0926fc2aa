"""A Prefect plugin: the slot of a global limit whose lease could not be stored is released.

Prefect counts the slot first, and then stores its lease. If Redis cannot be reached, or if it or
the volume is full and refuses the lease, the request fails, but the slot would stay taken, because
there is no lease that could expire. If the connection is lost meanwhile, it is unknown whether the
lease was stored, so the slot stays taken: when a stored lease expires, it releases the slot.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

import sqlite3
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.plugins import HookContext, register_hook
from prefect.server import models
from prefect.server.api import concurrency_limits, concurrency_limits_v2
from prefect.server.concurrency.lease_storage import (
    ConcurrencyLeaseStorage,
    ConcurrencyLimitLeaseMetadata,
    get_concurrency_lease_storage,
)
from prefect.server.database import provide_database_interface
from prefect.server.utilities.leasing import ResourceLease
from redis.exceptions import NoPermissionError, RedisError, ResponseError


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Replace the storage in which the routes of limits store leases."""
    concurrency_limits_v2.get_concurrency_lease_storage = _storage  # type: ignore[assignment, attr-defined]
    concurrency_limits.get_concurrency_lease_storage = _storage_of_older_clients  # type: ignore[assignment, attr-defined]


def _storage() -> "_Freeing":
    return _Freeing(get_concurrency_lease_storage())


def _storage_of_older_clients() -> "_FreeingUnlessReset":
    return _FreeingUnlessReset(get_concurrency_lease_storage())


class _Freeing:
    """A storage that releases the slots of a lease that it has not stored."""

    def __init__(self, storage: ConcurrencyLeaseStorage) -> None:
        self._storage = storage
        self._frees = True

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - every other method is the storage's
        return getattr(self._storage, name)

    async def create_lease(
        self,
        resource_ids: list[UUID],
        ttl: timedelta,
        metadata: ConcurrencyLimitLeaseMetadata | None = None,
    ) -> ResourceLease[ConcurrencyLimitLeaseMetadata]:
        sent = False
        try:
            if redis := getattr(self._storage, "redis_client", None):
                await redis.ping()
            sent = True
            return await self._storage.create_lease(resource_ids, ttl, metadata)
        except (RedisError, sqlite3.Error) as error:
            if self._frees and (not sent or _is_refusal(error)):
                await _release(resource_ids, metadata.slots if metadata else 0)
            raise


class _FreeingUnlessReset(_Freeing):
    """The same for the routes of older clients, except for the one that resets a limit.

    That route stores its leases inside the transaction that counts their slots, so an error already
    undoes the count. Of the routes that store leases, only this one reads the active leases first.
    """

    async def read_active_lease_ids(self, limit: int = 100, offset: int = 0) -> list[UUID]:
        self._frees = False
        return await self._storage.read_active_lease_ids(limit, offset)


def _is_refusal(error: Exception) -> bool:
    """Return whether the error means that nothing was stored."""
    if isinstance(error, sqlite3.Error):
        # After such an error, the lease may be on the disk nevertheless.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_IOERR
    # Redis may find a missing permission when the script has already stored the lease.
    return isinstance(error, ResponseError) and not isinstance(error, NoPermissionError)


async def _release(limits: list[UUID], slots: int) -> None:
    database = provide_database_interface()
    async with database.session_context(begin_transaction=True) as session:
        release = models.concurrency_limits_v2.bulk_decrement_active_slots
        await release(session=session, concurrency_limit_ids=limits, slots=slots)  # type: ignore[attr-defined]
