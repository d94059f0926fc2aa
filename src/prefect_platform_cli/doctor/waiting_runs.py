"""Find the flow runs that wait to start, and what they wait for."""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from prefect_platform import waiting_reasons
from prefect_platform.visible_text import visible

# Prefect's own states of runs that no worker has taken. They have no message.
_FOR_A_SLOT = {
    "AwaitingConcurrencySlot": "the concurrency limit of its deployment is reached",
    "Late": "its work pool is paused, has no free slot, or has no worker",
}
_WAITING = FlowRunFilter(
    state=FlowRunFilterState(
        name=FlowRunFilterStateName(any_=[*waiting_reasons.STATES, *_FOR_A_SLOT]),
        # A flow run can give any name to the states that it sets for itself.
        type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.SCHEDULED]),
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
    name = _shown(run.name)
    if state is None:
        return name
    if reason := _FOR_A_SLOT.get(str(state.name)):
        return f"{name}: {state.name}: {reason}"
    since = f"{state.timestamp:%Y-%m-%d %H:%M} UTC"
    return f"{name}: {state.name} since {since}: {_shown(state.message or '')}"


def _shown(text: str) -> str:
    """Return the text of a run as part of one line: its line breaks could pass for further rows."""
    return " ".join(visible(text).split())
