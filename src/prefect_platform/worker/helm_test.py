"""Run a flow through a work pool and report how it ended: the program of `helm test`.

It tests that the parts work together: the API, the worker, the worker's rights in the namespace of
the job pods, the base job template, the flows' image, and the job pod's connection to the API.
"""

import argparse
import asyncio
import logging
import os

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, Log
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from prefect_platform import container
from prefect_platform.api_failures import IN_A_POD, MISSING_POOL, describe
from prefect_platform.container import NotYet, wait_for
from prefect_platform.errors import PlatformError
from prefect_platform.worker.probe_flow import platform_test

_ENTRYPOINT = f"{platform_test.fn.__module__}.{platform_test.fn.__name__}"
_TAGS = ["prefect-platform", "helm-test"]
_LOGS_WITHIN = 10.0  # seconds; the last log lines of a run reach the API after its final state


async def run_through(
    client: PrefectClient, pool: str, *, queue: str | None, timeout: float, next_step: str
) -> FlowRun:
    """Return the test flow's run once it has completed in the work pool `pool`.

    Its deployment has the name of the pool and is created or updated. `queue` is one of the pool's
    work queues, None for the default one. Raises PlatformError when the pool is missing or paused,
    when the run ends in another state, and when it has not ended within `timeout` seconds, in which
    case it is cancelled.
    """
    await _expect_to_work(client, pool)
    deployment = await client.create_deployment(
        await client.create_flow(platform_test),
        name=pool,
        entrypoint=_ENTRYPOINT,
        work_pool_name=pool,
        work_queue_name=queue,
        tags=_TAGS,
        description="The flow that `helm test` runs. It can be deleted.",
    )
    run = await client.create_flow_run_from_deployment(deployment)

    async def ended() -> FlowRun:
        found = await client.read_flow_run(run.id)
        if found.state is None or not found.state.is_final():
            raise NotYet(f"it is {found.state_name}")
        return found

    try:
        found = await wait_for(
            f"the flow run {run.name}", ended, timeout=timeout, next_step=next_step
        )
    except PlatformError:
        # Otherwise the run would start as soon as there is a worker, after the test has ended.
        await client.set_flow_run_state(run.id, Cancelling())
        raise
    state = found.state
    if state is None or not state.is_completed():
        for line in await _logs(client, run):
            container.say(f"  {line.timestamp:%H:%M:%S} {line.message}")
        raise PlatformError(
            f"The flow run {run.name} in the work pool {pool} ended in the state "
            f"{found.state_name}: {state and state.message}",
            next_step=next_step,
        )
    return found


async def _expect_to_work(client: PrefectClient, name: str) -> None:
    """Raise PlatformError when the work pool is missing or paused, so that no run can start."""
    try:
        pool = await client.read_work_pool(name)
    except ObjectNotFound as error:
        raise PlatformError(
            f"The API does not know the work pool {name}",
            next_step=MISSING_POOL,
        ) from error
    if pool.is_paused:
        raise PlatformError(
            f"The work pool {name} is paused, so none of its runs start",
            next_step=f"prefect work-pool resume {name}",
        )


async def _logs(client: PrefectClient, run: FlowRun) -> list[Log]:
    """Return up to 200 log lines of a failed run, oldest first.

    Waits `_LOGS_WITHIN` seconds for an error among them, then returns what there is.
    """
    found: list[Log] = []

    async def complete() -> None:
        nonlocal found
        of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
        found = await client.read_logs(of_run, sort=LogSort.TIMESTAMP_ASC, limit=200)
        if not any(line.level >= logging.ERROR for line in found):
            raise NotYet("they contain no error yet")

    try:
        await wait_for("its logs", complete, timeout=_LOGS_WITHIN, next_step="")
    except PlatformError:
        return found
    return found


async def _run(arguments: argparse.Namespace) -> None:
    worker_namespace, _, worker = arguments.worker.partition("/")
    with describe(os.environ["PREFECT_API_URL"], IN_A_POD):
        async with get_client() as client:
            run = await run_through(
                client,
                arguments.pool,
                queue=arguments.queue,
                timeout=arguments.timeout,
                next_step=f"kubectl --namespace {worker_namespace} logs deployment/{worker}, and "
                f"kubectl --namespace {arguments.jobs} get events,jobs,pods",
            )
    container.say(f"The flow run {run.name} completed in the work pool {arguments.pool}")


def main() -> None:
    """Read the API's address from Prefect's own settings and run the flow."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.worker.helm_test")
    parser.add_argument("pool")
    parser.add_argument("--queue", help="a work queue that the pool's worker serves")
    parser.add_argument("--worker", required=True, metavar="NAMESPACE/DEPLOYMENT")
    parser.add_argument("--jobs", required=True, metavar="NAMESPACE")
    parser.add_argument("--timeout", type=float, default=240, metavar="SECONDS")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    container.run(main)
