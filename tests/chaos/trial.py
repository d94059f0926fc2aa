"""Inject one fault while runs are wanted at a steady pace, and record what happens."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypeVar
from uuid import UUID, uuid4

import httpx
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import actions, filters
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import TypeAdapter
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from prefect_platform.polling import wait_while
from prefect_platform.run_identity.grants import variable_of
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube import names
from tests.chaos import entry
from tests.chaos.faults import Fault
from tests.chaos.history import History, Job, Pod, Row, Run, Slots, State, Wanted
from tests.chaos.target import Target
from tests.cluster.deployed import deploy_code, eventually

_T = TypeVar("_T")
_RUN_ID = "prefect.io/flow-run-id"
_LIMIT = "chaos"
_SLOTS = 1  # the local work pool runs two at once, so limited runs wait for each other
_GRANTS = variable_of(names.POOL)
_AFTERWARDS = 2  # runs that wait for the fault, because only they show a recovery
_PACE = timedelta(seconds=3)  # about what a node with two cores can run
_TABLE = """
CREATE TABLE chaos (
    attempt bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL,
    limited boolean NOT NULL,
    began timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended timestamptz
)
"""


def run_trial(target: Target, fault: Fault, runs: int) -> History:
    """Want `runs` runs, inject `fault` while one of them computes, heal it, and wait for the end.

    Returns the history even if runs have not ended in time; the validators name them.
    """
    mark = f"chaos-{uuid4().hex[:8]}"
    fault.heal(target)  # an earlier trial may have been interrupted
    jobs_before = {job["metadata"]["name"] for job in target.listed(names.JOB_NAMESPACE, "jobs")}
    with _table(target), _limit(target), _deployment(target) as deployment:
        recorder = _Recorder(target)
        with ThreadPoolExecutor(2) as threads, recorder.recording(threads):
            injected: Future[datetime] = Future()
            load = threads.submit(_want, target, deployment, mark, runs, injected)
            _inject(target, fault, injected)
            wanted = load.result()
            with connected(target.kubectl) as prefect:
                ids = _await_the_end(prefect, mark, runs, seconds=300 + 10 * runs)
                recorded = tuple(_read_run(prefect, run_id) for run_id in ids)
                jobs = _jobs(target, prefect, jobs_before)
        of_trial = {run.id for run in recorded}
        return History(
            fault=fault.name,
            limit=_SLOTS,
            injected=injected.result(),
            wanted=wanted,
            runs=recorded,
            jobs=jobs,
            pods=tuple(pod for pod in recorder.pods.values() if pod.run_id in of_trial),
            rows=_rows(target),
            slots=tuple(recorder.slots),
        )


def _inject(target: Target, fault: Fault, injected: Future[datetime]) -> None:
    """Inject the fault while a run holds a slot, say when, and heal it when its time is over."""
    eventually(
        "a run holds a slot",
        lambda: any(row.limited and row.ended is None for row in _rows(target)),
    )
    injected.set_result(datetime.now(UTC))
    try:
        fault.inject(target)
        time.sleep(fault.seconds)  # the outage that the runs have to survive
    finally:
        fault.heal(target)


def _want(
    target: Target, deployment: UUID, mark: str, runs: int, injected: Future[datetime]
) -> tuple[Wanted, ...]:
    """Want a run every few seconds, every second one with a slot, and create it when possible."""
    wanted = []
    with connected(target.kubectl) as prefect:
        begun = datetime.now(UTC)
        for number in range(runs):
            due = begun + number * _PACE
            if number >= runs - _AFTERWARDS:
                due = max(due, injected.result(timeout=300))
            time.sleep(max(0, (due - datetime.now(UTC)).total_seconds()))
            name = f"{mark}-{number}"
            wanted.append(Wanted(name, due))
            create = partial(
                prefect.create_flow_run_from_deployment,
                deployment,
                name=name,
                parameters={"limit": None if number % 2 else _LIMIT},
                tags=[mark],
                idempotency_key=name,  # a request without an answer may have created the run
            )
            _when_possible(create)
    return tuple(wanted)


class _Recorder:
    """Records the pods of the trial's runs and the taken slots of its limit, every second."""

    def __init__(self, target: Target) -> None:
        self.pods: dict[str, Pod] = {}
        self.slots: list[Slots] = []
        self._target = target
        self._over = Event()

    @contextmanager
    def recording(self, threads: ThreadPoolExecutor) -> Iterator[None]:
        """Record in a thread during the block, and once more at its end."""
        recorder: Future[None] = threads.submit(self._record)
        try:
            yield
        finally:
            self._over.set()
            recorder.result()

    def _record(self) -> None:
        core = kubernetes_client.CoreV1Api(self._target.kubectl.api())
        with connected(self._target.kubectl) as prefect:
            while True:
                last = self._over.wait(1)
                self._record_pods(core)
                with suppress(httpx.TransportError, PrefectHTTPStatusError):
                    limit = prefect.read_global_concurrency_limit_by_name(_LIMIT)
                    self.slots.append(Slots(datetime.now(UTC), limit.active_slots))
                if last:
                    return

    def _record_pods(self, core: kubernetes_client.CoreV1Api) -> None:
        for pod in core.list_namespaced_pod(names.JOB_NAMESPACE, label_selector=_RUN_ID).items:
            for status in pod.status.container_statuses or ():
                if ran := status.state.terminated or status.state.running:
                    self.pods[pod.metadata.uid] = Pod(
                        name=pod.metadata.name,
                        run_id=pod.metadata.labels[_RUN_ID],
                        started=ran.started_at,
                        ended=getattr(ran, "finished_at", None),
                    )


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
            actions.GlobalConcurrencyLimitCreate(name=_LIMIT, limit=_SLOTS)
        )
        prefect.create_variable(
            actions.VariableCreate(name=_GRANTS, value={"concurrency_limits": [_LIMIT]})
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
            prefect.delete_global_concurrency_limit_by_name(_LIMIT)


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


def _await_the_end(prefect: SyncPrefectClient, mark: str, runs: int, seconds: float) -> list[UUID]:
    """Wait until all runs of the trial have ended, and return the ids of those that there are."""
    of_trial = filters.FlowRunFilter(tags=filters.FlowRunFilterTags(all_=[mark]))
    end = time.monotonic() + seconds
    while True:
        found = _when_possible(lambda: prefect.read_flow_runs(flow_run_filter=of_trial))
        ended = sum(run.state is not None and run.state.is_final() for run in found)
        if ended >= runs or time.monotonic() > end:
            return [run.id for run in found]
        time.sleep(1)


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

    def left() -> tuple[Job, ...]:
        return tuple(
            Job(
                name=each["metadata"]["name"],
                active=bool(each["status"].get("active")),
                run_state=_state(prefect, each["metadata"]["labels"][_RUN_ID]),
            )
            for each in target.listed(names.JOB_NAMESPACE, "jobs", _RUN_ID)
            if each["metadata"]["name"] not in before
        )

    wait_while(lambda: any(job.active for job in left()), 60, every=1)
    return left()


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


def _when_possible(call: Callable[[], _T]) -> _T:
    """Make a call of the API, and repeat it while the API is away."""
    return Retrying(
        retry=retry_if_exception(_is_away),
        stop=stop_after_delay(600),
        wait=wait_fixed(1),
        reraise=True,
    )(call)


def _is_away(error: BaseException) -> bool:
    if isinstance(error, PrefectHTTPStatusError):
        return error.response.is_server_error
    return isinstance(error, httpx.TransportError)
