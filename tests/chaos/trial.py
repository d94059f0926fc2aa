"""Inject faults while runs are wanted at a steady pace, and record what happens."""

import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import actions, filters
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from pydantic import TypeAdapter

from prefect_platform.polling import wait_while
from prefect_platform.run_identity.grants import variable_of
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube import names
from tests.chaos import entry
from tests.chaos.api import when_possible
from tests.chaos.fault import Fault, FaultOfRun
from tests.chaos.history import History, Job, Row, Run, State
from tests.chaos.injection import inject
from tests.chaos.load import LIMIT, Load
from tests.chaos.receiver import Receiver, receiving
from tests.chaos.recorder import RUN_ID, Recorder, taken_slots
from tests.chaos.schedule import Injection, drawn
from tests.chaos.target import Target
from tests.cluster.deployed import deploy_code, eventually

_SLOTS = 1  # the local work pool runs four at once, so limited runs wait for each other
_GRANTS = variable_of(names.POOL)
_PACE = timedelta(seconds=3)  # about what a node with two cores can run
_LEASES = 600  # seconds until every lease has expired, even if the API has restarted
_PAGE = 200  # the maximum of runs in a response of the API
_TABLE = """
CREATE TABLE chaos (
    attempt bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL,
    limited boolean NOT NULL,
    began timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended timestamptz
)
"""


def run_trial(target: Target, faults: tuple[Fault, ...], runs: int) -> History:
    """Create `runs` runs, inject all `faults` while one computes, heal, and wait for the end.

    Returns the history even if runs have not ended in time; the validators name them.
    """

    def disturb(load: Load) -> None:
        eventually(
            "a run holds a slot",
            lambda: any(row.limited and row.ended is None for row in _rows(target)),
        )
        load.injected.set_result(datetime.now(UTC))
        inject(target, faults, load)

    return _recorded(target, faults, runs, _PACE, disturb)


def run_schedule(
    target: Target, faults: tuple[Fault, ...], runs: int, period: timedelta, seed: int
) -> tuple[History, tuple[Injection, ...]]:
    """Create `runs` runs during `period`, and inject faults that are drawn with `seed` meanwhile.

    Returns the history like `run_trial`, and what was injected when.
    """
    injections: list[Injection] = []

    def disturb(load: Load) -> None:
        end = datetime.now(UTC) + period
        for pause, fault in drawn(faults, seed):
            time.sleep(pause)  # the load alone
            if injections and datetime.now(UTC) > end:
                break
            injections.append(Injection(fault.name, datetime.now(UTC)))
            inject(target, (fault,), load)
        load.injected.set_result(injections[-1].at)

    history = _recorded(target, faults, runs, period / runs, disturb)
    return history, tuple(injections)


def _recorded(
    target: Target,
    faults: tuple[Fault, ...],
    runs: int,
    pace: timedelta,
    disturb: Callable[[Load], None],
) -> History:
    """Return the history of a load that `disturb` injects some of the `faults` into."""
    for fault in faults:
        fault.heal(target)  # an earlier trial may have been interrupted
    jobs_before = {job["metadata"]["name"] for job in target.listed(names.JOB_NAMESPACE, "jobs")}
    with ExitStack() as stack:
        stack.enter_context(_table(target))
        stack.enter_context(_limit(target))
        deployment = stack.enter_context(_deployment(target))
        receiver: Receiver | None = None
        if any(isinstance(fault, FaultOfRun) for fault in faults):
            receiver = stack.enter_context(receiving(target, deployment))
        recorder = Recorder(target)
        load = Load(target, deployment, runs, pace)
        with ThreadPoolExecutor(2) as threads, recorder.recording(threads):
            creating = threads.submit(load.create_runs)
            try:
                disturb(load)
            finally:
                load.injected.cancel()  # if that has failed, the last runs wait for it
            creating.result()
            with connected(target.kubectl) as prefect:
                ids = _await_the_end(prefect, load)
                recorded = tuple(_read_run(prefect, run_id) for run_id in ids)
                jobs = _jobs(target, prefect, jobs_before)
                slots = taken_slots(prefect)
        of_trial = {run.id for run in recorded}
        return History(
            fault="+".join(fault.name for fault in faults),
            limit=_SLOTS,
            injected=load.injected.result(),
            wanted=tuple(load.wanted),
            runs=recorded,
            jobs=jobs,
            pods=tuple(pod for pod in recorder.pods.values() if pod.run_id in of_trial),
            rows=_rows(target),
            slots=(*recorder.slots, slots),
            notified=_notified(receiver, recorded) if receiver else None,
            disrupted=tuple(load.disrupted),
        )


def _notified(receiver: Receiver, runs: Collection[Run]) -> tuple[str, ...]:
    """Return the runs of the notifications, when each crash was reported or after a minute."""
    crashed = {run.name for run in runs for state in run.ends if state.name == "Crashed"}
    wait_while(lambda: crashed.difference(receiver.runs()), 60, every=1)
    return receiver.runs()


@contextmanager
def _table(target: Target) -> Iterator[None]:
    drop = "DROP TABLE IF EXISTS chaos"
    target.psql(f"{drop}; {_TABLE}")
    try:
        yield
    finally:
        target.psql(drop)


@contextmanager
def _limit(target: Target) -> Iterator[None]:
    """Create the limit, and let the runs of the pool use it."""
    _remove_limit(target)  # an earlier trial may have been interrupted
    with connected(target.kubectl) as prefect:
        prefect.create_global_concurrency_limit(
            actions.GlobalConcurrencyLimitCreate(name=LIMIT, limit=_SLOTS)
        )
        prefect.create_variable(
            actions.VariableCreate(name=_GRANTS, value={"concurrency_limits": [LIMIT]})
        )
    try:
        yield
    finally:
        _remove_limit(target)


def _remove_limit(target: Target) -> None:
    with connected(target.kubectl) as prefect:
        with suppress(ObjectNotFound):
            prefect.delete_variable_by_name(_GRANTS)
        with suppress(ObjectNotFound):
            prefect.delete_global_concurrency_limit_by_name(LIMIT)


@contextmanager
def _deployment(target: Target) -> Iterator[UUID]:
    source = Path(entry.__file__).read_text()
    with connected(target.kubectl) as prefect:
        deployment = deploy_code(prefect, "entry", source)
    try:
        yield deployment
    finally:
        with connected(target.kubectl) as prefect:
            prefect.delete_deployment(deployment)


def _await_the_end(prefect: SyncPrefectClient, load: Load) -> list[UUID]:
    """Wait until all runs of the load have ended, and return the ids of those that there are."""
    # The API frees the slot of a run whose pod was ended only when its lease has expired.
    leases = _LEASES if load.disrupted else 0
    end = time.monotonic() + leases + 300 + 10 * len(load.wanted)
    while True:
        found = _runs(prefect, load)
        ended = sum(run.state is not None and run.state.is_final() for run in found)
        if ended >= len(load.wanted) or time.monotonic() > end:
            return [run.id for run in found]
        time.sleep(1)


def _runs(prefect: SyncPrefectClient, load: Load) -> list[FlowRun]:
    """Return the runs of the load that there are."""
    of_trial = filters.FlowRunFilter(tags=filters.FlowRunFilterTags(all_=[load.mark]))
    found: list[FlowRun] = []

    def page() -> list[FlowRun]:
        return prefect.read_flow_runs(
            flow_run_filter=of_trial, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=len(found)
        )

    while more := when_possible(page):
        found.extend(more)
    return found


def _read_run(prefect: SyncPrefectClient, run_id: UUID) -> Run:
    states = prefect.read_flow_run_states(run_id)
    return Run(
        id=str(run_id),
        name=prefect.read_flow_run(run_id).name,
        states=tuple(
            State(each.type.value, str(each.name), each.timestamp, each.message)
            for each in sorted(states, key=lambda state: state.timestamp)
        ),
    )


def _jobs(target: Target, prefect: SyncPrefectClient, before: set[str]) -> tuple[Job, ...]:
    """Return the Jobs that the trial leaves, when none is active or after a minute."""

    def left() -> list[dict[str, Any]]:
        listed = target.listed(names.JOB_NAMESPACE, "jobs", RUN_ID)
        return [job for job in listed if job["metadata"]["name"] not in before]

    wait_while(lambda: any(job["status"].get("active") for job in left()), 60, every=1)
    return tuple(
        Job(
            name=each["metadata"]["name"],
            active=bool(each["status"].get("active")),
            run_state=_state(prefect, each["metadata"]["labels"][RUN_ID]),
        )
        for each in left()
    )


def _state(prefect: SyncPrefectClient, run_id: str) -> State | None:
    try:
        state = prefect.read_flow_run(UUID(run_id)).state
    except ObjectNotFound:
        return None
    assert state is not None
    return State(state.type.value, str(state.name), state.timestamp, state.message)


def _rows(target: Target) -> tuple[Row, ...]:
    rows = target.psql("SELECT coalesce(json_agg(chaos), '[]') FROM chaos")
    return TypeAdapter(tuple[Row, ...]).validate_json(rows)
