"""Read flow runs from Prefect's API, page by page, and set their state."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterId,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

# The states of a run while a worker or a Job is responsible for it.
LIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
_NOT_FINAL = (*LIVE, StateType.SCHEDULED, StateType.PAUSED)
_PAGE = 200  # the API's limit per request
_HEARTBEAT = "prefect.flow-run.heartbeat"
_RESOURCE = "prefect.flow-run."
_OVERLOADED = (
    *(HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY),
    *(HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT),
)
_AHEAD = timedelta(days=1)  # how far the clock of a run's node may be ahead

T = TypeVar("T")


async def live_runs(client: PrefectClient, work_pool: str) -> list[FlowRun]:
    """Return the runs of a work pool that wait for a Job or have one.

    When a run ends between two requests, another one may be missing; the next pass finds it.
    """
    return await _all_pages(
        client,
        _in_states(*LIVE),
        WorkPoolFilter(name=WorkPoolFilterName(any_=[work_pool])),
    )


async def runs_by_id(client: PrefectClient, ids: Collection[UUID]) -> dict[UUID, FlowRun]:
    """Return those of the runs `ids` that exist, by id."""
    found = {}
    for some in _slices(sorted(ids)):
        of_ids = FlowRunFilter(id=FlowRunFilterId(any_=list(some)))
        for run in await client.read_flow_runs(flow_run_filter=of_ids, limit=_PAGE):
            found[run.id] = run
    return found


async def task_runs_by_id(client: PrefectClient, ids: Collection[UUID]) -> dict[UUID, TaskRun]:
    """Return those of the task runs `ids` that the API has recorded, by id."""
    found = {}
    for some in _slices(sorted(ids)):
        of_ids = TaskRunFilter(id=TaskRunFilterId(any_=list(some)))
        for task_run in await client.read_task_runs(task_run_filter=of_ids, limit=_PAGE):
            found[task_run.id] = task_run
    return found


async def live_runs_of_deployment(client: PrefectClient, deployment_id: UUID) -> int:
    """Return how many runs of a deployment may hold a slot of its concurrency limit.

    A run that waits for a retry in its own process keeps its slot.
    """
    retrying = FlowRunFilterState(name=FlowRunFilterStateName(any_=["AwaitingRetry"]))
    of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    return sum(
        [
            await client.count_flow_runs(flow_run_filter=wanted, deployment_filter=of_deployment)
            for wanted in (_in_states(*LIVE), FlowRunFilter(state=retrying))
        ]
    )


async def run_now(client: PrefectClient, run_id: UUID) -> FlowRun | None:
    """Return the current state of a run; None when the API answers that it does not exist."""
    try:
        return await client.read_flow_run(run_id)
    except ObjectNotFound:
        return None


async def runs_inside_others(client: PrefectClient) -> list[tuple[FlowRun, FlowRun]]:
    """Return each unfinished run that lives in the process of another run, with that other run.

    The other run is the outermost one, for which the process was started. It may belong to any work
    pool or to none.
    """
    called = _in_states(*_NOT_FINAL)
    called.deployment_id = FlowRunFilterDeploymentId(is_null_=True)
    called.parent_task_run_id = FlowRunFilterParentTaskRunId(is_null_=False)
    inner = [run for run in await _all_pages(client, called) if _is_called(run)]
    outer = {run.id: run for run in inner}
    while climbing := {key: run for key, run in outer.items() if _is_called(run)}:
        parents = await _parents(client, climbing.values())
        for key, run in climbing.items():
            if (parent := parents.get(run.id)) is None:
                del outer[key]  # the parent was deleted, so its process can no longer be found
            else:
                outer[key] = parent
    return [(run, outer[run.id]) for run in inner if run.id in outer]


async def beating_runs(
    client: PrefectClient, ids: Collection[UUID], *, since: datetime
) -> set[UUID]:
    """Return those of the runs `ids` that have sent a heartbeat since the time `since`."""
    found: set[UUID] = set()
    until = datetime.now(UTC) + _AHEAD
    for some in _slices(sorted(ids)):
        wanted = {
            "occurred": {"since": since.isoformat(), "until": until.isoformat()},
            "event": {"name": [_HEARTBEAT]},
            "resource": {"id": [f"{_RESOURCE}{run_id}" for run_id in some]},
        }
        counts = await client.request(
            "POST",
            "/events/count-by/{countable}",
            path_params={"countable": "resource"},
            json={"filter": wanted},
        )
        found |= {UUID(each["value"].removeprefix(_RESOURCE)) for each in counts.json()}
    return found


async def is_unchanged(client: PrefectClient, run: FlowRun) -> bool:
    """Return whether a run has the same state and the same Job as when it was read."""
    now = await run_now(client, run.id)
    return now is not None and (now.state_id, now.infrastructure_pid) == (
        run.state_id,
        run.infrastructure_pid,
    )


async def set_state(
    client: PrefectClient, run: FlowRun, state: State[None], *, dry_run: bool
) -> bool:
    """Set `run` to `state`; return whether that was done, or would be done without dry run.

    The run is read again first, and left alone if it has changed since it was judged. The state is
    never forced: Prefect's rules release the slots that the run holds in concurrency limits, and
    refuse to crash a run that becomes final between the two requests. If the request fails, the
    next pass judges the run anew: a request that is repeated after minutes would meet another
    state.
    """
    if not await is_unchanged(client, run):
        return False
    if dry_run:
        return True
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            result = await client.set_flow_run_state(run.id, state)
    except (ObjectNotFound, httpx.TransportError):
        return False
    except PrefectHTTPStatusError as error:
        if error.response.status_code in _OVERLOADED:
            return False
        raise
    return result.status == SetStateStatus.ACCEPT


def _in_states(*types: StateType) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))))


async def _all_pages(
    client: PrefectClient, wanted: FlowRunFilter, of_pool: WorkPoolFilter | None = None
) -> list[FlowRun]:
    found: dict[UUID, FlowRun] = {}
    offset = 0
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=wanted,
            work_pool_filter=of_pool,
            sort=FlowRunSort.ID_DESC,
            limit=_PAGE,
            offset=offset,
        )
        found.update((run.id, run) for run in page)
        offset += _PAGE
        if len(page) < _PAGE:
            return list(found.values())


def _is_called(run: FlowRun) -> bool:
    """Return whether a run was called by another run instead of being given to a worker."""
    return (
        run.parent_task_run_id is not None
        and run.deployment_id is None
        and run.work_pool_name is None
    )


async def _parents(client: PrefectClient, runs: Collection[FlowRun]) -> dict[UUID, FlowRun]:
    """Return the calling run of each of `runs`, by the id of the called run."""
    ids = {run.parent_task_run_id for run in runs if run.parent_task_run_id}
    task_runs = await task_runs_by_id(client, ids)
    calls = {key: each.flow_run_id for key, each in task_runs.items() if each.flow_run_id}
    callers = await runs_by_id(client, set(calls.values()))
    return {
        run.id: callers[calls[run.parent_task_run_id]]
        for run in runs
        if run.parent_task_run_id in calls and calls[run.parent_task_run_id] in callers
    }


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _PAGE):
        yield items[start : start + _PAGE]
