"""Run the daily ETL once, to show that a new platform works."""

import datetime as dt

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_while

DEPLOYMENT = "etl-daily/daily"
_TAG = "first-run"
_FIRST, _LAST = dt.date(2013, 1, 1), dt.date(2013, 12, 31)
_ENDS_WITHIN = 15 * 60  # seconds; the retries of the task `extract` alone may take 370


def parse_day(text: str) -> dt.date:
    """Parse the day `text`; raises PlatformError when the data does not contain that day."""
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as error:
        raise PlatformError(
            f"DATE={text} is not a date: {error}", next_step="make deploy-cluster DATE=2013-01-01"
        ) from error
    if not _FIRST <= day <= _LAST:
        raise PlatformError(
            f"DATE={day} is not between {_FIRST} and {_LAST}, the first and last day of the data",
            next_step="make deploy-cluster DATE=2013-01-01",
        )
    return day


def find_or_start(client: SyncPrefectClient, day: dt.date) -> tuple[FlowRun, bool]:
    """Return the run for `day` and whether it is new; a failed run is replaced with a new one."""
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[_TAG])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
    )
    for run in runs:
        state = run.state
        usable = state is None or not state.is_final() or state.is_completed()
        if run.parameters.get("date") == day.isoformat() and usable:
            return run, False
    return client.create_flow_run_from_deployment(
        deployment.id, parameters={"date": day.isoformat()}, tags=[_TAG]
    ), True


def wait_for(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Return `run` once it has completed.

    Raises PlatformError with the message of its state if it ends in another state or not in time.
    """

    def unfinished() -> FlowRun | None:
        nonlocal run
        run = client.read_flow_run(run.id)
        return None if run.state is not None and run.state.is_final() else run

    if wait_while(unfinished, _ENDS_WITHIN, every=1):
        raise PlatformError(
            f"the flow run {run.name} has not ended after {_ENDS_WITHIN} s: it is "
            f"{run.state.name if run.state else 'without a state'}",
            next_step=f"make logs RUN={run.name}",
        )
    require_completed(run)
    return run


def require_completed(run: FlowRun) -> None:
    """Raise PlatformError with the message of the state of `run` unless it has completed."""
    if run.state is None or not run.state.is_completed():
        raise PlatformError(
            f"the flow run {run.name} ended as {run.state.name}: {run.state.message}"
            if run.state
            else f"the flow run {run.name} has no state",
            next_step=f"make logs RUN={run.name}",
        )
