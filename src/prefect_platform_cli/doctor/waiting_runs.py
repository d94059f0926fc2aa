"""Find the flow runs that wait to start, and what they wait for."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from prefect_platform import waiting_reasons

# Prefect's own states of runs that no worker has taken. They have no message.
_FOR_A_SLOT = {
    "AwaitingConcurrencySlot": "the concurrency limit of its deployment is reached",
    "Late": "its work pool is paused, has no free slot, or has no worker",
}
_WAITING = FlowRunFilter(
    state=FlowRunFilterState(
        name=FlowRunFilterStateName(any_=[*waiting_reasons.STATES, *_FOR_A_SLOT])
    )
)
_SHOWN = 10


def waiting_runs(prefect: SyncPrefectClient) -> list[str]:
    """Return a line for each of the runs that were due first, and one that counts the others."""
    runs = prefect.read_flow_runs(
        flow_run_filter=_WAITING, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=_SHOWN
    )
    others = prefect.count_flow_runs(flow_run_filter=_WAITING) - len(runs)
    return [*map(_line, runs), *([f"{others} more"] if others > 0 else [])]


def _line(run: FlowRun) -> str:
    state = run.state
    if state is None:
        return run.name
    if reason := _FOR_A_SLOT.get(str(state.name)):
        return f"{run.name}: {state.name}: {reason}"
    # A run may set any message for itself. Its line breaks could pass for further rows.
    message = " ".join((state.message or "").split())
    return f"{run.name}: {state.name} since {state.timestamp:%Y-%m-%d %H:%M} UTC: {message}"
