"""A Prefect plugin: the slot of a deployment is not freed twice.

If nothing renews the lease of a run that waits for its pod, the lease expires, the server frees the
slot, and another run takes it. When the first run then ends, Prefect finds no lease and frees a
slot again: that of the other run, so that one run too many may start. The plugin lets Prefect free
a slot without a lease only if more slots are taken than other runs of the deployment hold, as after
a loss of the leases.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

from uuid import UUID

import prefect.server.models  # noqa: F401 - core_policy cannot be imported before it
from prefect.plugins import HookContext, register_hook
from prefect.server.concurrency.lease_storage import get_concurrency_lease_storage
from prefect.server.database.orm_models import (
    ConcurrencyLimitV2,
    Deployment,
    FlowRun,
    FlowRunState,
)
from prefect.server.orchestration import core_policy
from prefect.server.schemas.states import StateType
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

_release = core_policy._release_concurrency_lease
_LIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


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
    lost = await get_concurrency_lease_storage().read_lease(lease_id) is None
    if lost and fallback_concurrency_limit_ids:
        (limit_id,) = fallback_concurrency_limit_ids  # that of the run's deployment
        of_limit = ConcurrencyLimitV2.id == limit_id
        taken = await session.scalar(select(ConcurrencyLimitV2.active_slots).where(of_limit))
        if (taken or 0) <= await _held_by_others(session, limit_id, lease_id):
            return
    await _release(session, lease_id, fallback_concurrency_limit_ids, fallback_slots)


async def _held_by_others(session: AsyncSession, limit_id: UUID, lease_id: UUID) -> int:
    """Return how many unfinished runs have a lease of the limit other than `lease_id`.

    A lease that has expired counts, because it can be renewed until the server revokes it. A run
    that waits for a retry in its own process keeps its lease.
    """
    unfinished = or_(FlowRun.state_type.in_(_LIVE), FlowRun.state_name == "AwaitingRetry")
    details = await session.scalars(
        select(FlowRunState.state_details)
        .join(FlowRun, FlowRun.state_id == FlowRunState.id)
        .join(Deployment, Deployment.id == FlowRun.deployment_id)
        .where(Deployment.concurrency_limit_id == limit_id, unfinished)
    )
    leases = [each.deployment_concurrency_lease_id for each in details]
    return sum(each not in (None, lease_id) for each in leases)
