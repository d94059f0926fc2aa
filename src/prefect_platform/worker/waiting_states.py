"""Set the state of a flow run that waits for its pod."""

from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, Pause
from prefect.states import Pending
from prefect.utilities.engine import propose_state

from prefect_platform.waiting_reasons import WaitingReason


async def propose(client: PrefectClient, flow_run_id: UUID, reason: WaitingReason) -> bool:
    """Propose the state of `reason` for a pending run; return whether the server accepted it.

    The server rejects it when the run has started or ended meanwhile, or another worker was faster.
    """
    waiting: State[None] = Pending(name=reason.state, message=reason.sentence)
    try:
        state = await propose_state(client, waiting, flow_run_id)
    except (Abort, Pause):  # they derive from BaseException and would end the observer
        return False
    return state.name == reason.state
