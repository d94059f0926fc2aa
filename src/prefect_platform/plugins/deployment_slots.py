"""A Prefect plugin: the slot of a deployment is not freed twice.

Only a running run renews the lease of its slot. If a run waits longer for its pod, the lease
expires, the server frees the slot, and another run takes it. When the first run then ends, Prefect
finds no lease and frees a slot again: that of the other run, so that one run too many may start.
The plugin lets Prefect free a slot without a lease only if more slots are taken than leases hold,
as after a loss of the leases.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

from itertools import count
from uuid import UUID

import prefect.server.models  # noqa: F401 - core_policy cannot be imported before it
from prefect.plugins import HookContext, register_hook
from prefect.server.concurrency.lease_storage import (
    ConcurrencyLeaseStorage,
    get_concurrency_lease_storage,
)
from prefect.server.database.orm_models import ConcurrencyLimitV2
from prefect.server.orchestration import core_policy
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

_release = core_policy._release_concurrency_lease
_PAGE = 100


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Replace the function that releases the slot of a flow run."""
    core_policy._release_concurrency_lease = _release_once


async def _release_once(
    session: AsyncSession,
    lease_id: UUID,
    fallback_concurrency_limit_ids: list[UUID] | None = None,
    fallback_slots: int = 1,
) -> None:
    storage = get_concurrency_lease_storage()
    if fallback_concurrency_limit_ids and await storage.read_lease(lease_id) is None:
        (limit_id,) = fallback_concurrency_limit_ids  # that of the run's deployment
        of_limit = ConcurrencyLimitV2.id == limit_id
        taken = await session.scalar(select(ConcurrencyLimitV2.active_slots).where(of_limit))
        if (taken or 0) <= await _held(storage, limit_id):
            return
    await _release(session, lease_id, fallback_concurrency_limit_ids, fallback_slots)


async def _held(storage: ConcurrencyLeaseStorage, limit_id: UUID) -> int:
    """Return how many slots of a limit the leases hold that have not expired."""
    held = 0
    for page in count():
        ids = await storage.read_active_lease_ids(limit=_PAGE, offset=page * _PAGE)
        for lease in [await storage.read_lease(each) for each in ids]:
            if lease is not None and limit_id in lease.resource_ids:
                held += lease.metadata.slots if lease.metadata else 1
        if len(ids) < _PAGE:
            break
    return held
