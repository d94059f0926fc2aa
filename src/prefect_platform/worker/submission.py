"""Take a run, and create no Job for it when it is no longer this worker's.

The reaper gives a run back when no Job appears for it. A worker that was only slow, for example
because the API did not answer, must not create one afterwards: the run would be executed twice.
"""

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Abort
from prefect.logging.loggers import PrefectLogAdapter
from prefect.states import Pending
from prefect.utilities.engine import propose_state


async def take(client: PrefectClient, run: FlowRun, worker: str, logger: PrefectLogAdapter) -> bool:
    """Propose Pending for a run, with the name of the worker; return whether it may submit it.

    Prefect's own method proposes the same state without a message.
    """
    try:
        state = await propose_state(client, Pending(message=_taken_by(worker)), run.id)
    except Abort as abort:
        logger.info("The server refuses to let the worker %s take the run: %s", worker, abort)
        return False
    except Exception:  # as in Prefect, so that the worker goes on with other runs
        logger.exception("The run cannot be set to Pending")
        return False
    if not state.is_pending():
        logger.info("The run is %s, and the worker %s does not take it", state.name, worker)
    return state.is_pending()


async def is_given_back(
    client: PrefectClient, run: FlowRun, worker: str, logger: PrefectLogAdapter
) -> bool:
    """Return whether a run that `worker` has taken waits for a worker again, or another took it.

    So does a run that has ended. If the API does not answer, the run may be another worker's, and
    the reaper gives it back if it is not.
    """
    try:
        states = await client.read_flow_run_states(run.id)
    except httpx.HTTPError as error:
        logger.warning(
            "The worker %s creates no Job, because it cannot read whether the run is still its: %s",
            worker,
            error,
        )
        return True
    states.sort(key=lambda state: state.timestamp)
    taken = [state.message for state in states if state.name == "Pending"]
    if taken[-1:] == [_taken_by(worker)] and states[-1].is_pending():
        return False
    logger.warning("The worker %s creates no Job, because the run was given back", worker)
    return True


def _taken_by(worker: str) -> str:
    return f"Taken by the worker {worker}."
