"""Set the state of a flow run that waits for its pod."""

from contextlib import suppress
from uuid import UUID

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.states import Pending
from prefect.utilities.engine import propose_state

from prefect_platform.waiting_reasons import WaitingReason

_WITHIN = 5.0  # seconds, as Prefect's observer


async def pending_state(client: PrefectClient, flow_run_id: UUID) -> State[None] | None:
    """Return the state of a flow run if it is pending; None if it is not, or does not exist."""
    try:
        state: State[None] | None = (await client.read_flow_run(flow_run_id)).state
    except ObjectNotFound:
        return None
    return state if state is not None and state.is_pending() else None


async def propose(client: PrefectClient, flow_run_id: UUID, reason: WaitingReason) -> bool:
    """Propose the state of `reason` for a pending run; return whether the server accepted it.

    The server rejects it when the run has started or ended meanwhile, or another worker was faster.
    A request that is repeated for longer could take a run that was scheduled again in the meantime.
    """
    waiting: State[None] = Pending(name=reason.state, message=reason.sentence)
    with anyio.move_on_after(_WITHIN), suppress(Abort, Pause):  # both derive from BaseException
        return (await propose_state(client, waiting, flow_run_id)).name == reason.state
    return False
