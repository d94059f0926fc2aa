"""Create no Job for a run that is no longer this worker's.

The reaper gives a run back when no Job appears for it. A worker that was only slow, for example
because the API did not answer, must not create one afterwards: the run would be executed twice.
"""

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import PrefectLogAdapter

_WORKER = "prefect.worker.name"  # the label that a worker puts on each run that it takes


async def is_given_back(
    client: PrefectClient, run: FlowRun, worker: str, logger: PrefectLogAdapter
) -> bool:
    """Return whether a run that `worker` has taken waits for a worker again, or has another.

    If the API does not answer, the run is taken to be the worker's: the reaper may be turned off.
    """
    try:
        now = await client.read_flow_run(run.id)
    except httpx.HTTPError as error:
        logger.warning("Cannot read whether the run was given back: %s", error)
        return False
    given_back = now.state is not None and now.state.is_scheduled()
    if given_back or now.labels.get(_WORKER) != worker:
        logger.warning("The worker %s creates no Job, because the run was given back", worker)
        return True
    return False
