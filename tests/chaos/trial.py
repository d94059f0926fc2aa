"""Inject one fault while runs are wanted at a steady pace, and record what happens."""

import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import httpx
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import actions, filters
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import TypeAdapter

from prefect_platform.polling import wait_while
from prefect_platform.run_identity.grants import variable_of
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube import names
from tests.chaos import entry
from tests.chaos.api import call_when_possible, when_possible
from tests.chaos.fault import Fault, FaultOfRun
from tests.chaos.history import History, Job, Pod, Row, Run, Slots, State, Wanted
from tests.chaos.receiver import Receiver, receiving
from tests.chaos.target import Target
from tests.cluster.deployed import deploy_code, eventually, in_parallel

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


def run_trial(target: Target, faults: tuple[Fault, ...], runs: int) -> History:
    """Want `runs` runs, inject all `faults` while one of them computes, heal, and wait for the end.

    Returns the history even if runs have not ended in time; the validators name them.
    """
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
        recorder = _Recorder(target)
        load = _Load(target, deployment, runs)
        with ThreadPoolExecutor(2) as threads, recorder.recording(threads):
            creating = threads.submit(load.create_runs)
            _inject(target, faults, load)
            creating.result()
            with connected(target.kubectl) as prefect:
                ids = _await_the_end(prefect, load)
                recorded = tuple(_read_run(prefect, run_id) for run_id in ids)
                jobs = _jobs(target, prefect, jobs_before)
                slots = _slots(prefect)
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
        )


def _notified(receiver: Receiver, runs: Collection[Run]) -> tuple[str, ...]:
    """Return the runs of the notifications, when each crash was reported or after a minute."""
    crashed = {run.name for run in runs for state in run.ends if state.name == "Crashed"}
    wait_while(lambda: crashed.difference(receiver.runs()), 60, every=1)
    return receiver.runs()


class _Load:
    """Wants runs at a steady pace, every second one with a slot."""

    def __init__(self, target: Target, deployment: UUID, runs: int) -> None:
        self.mark = f"chaos-{uuid4().hex[:8]}"
        self.wanted: list[Wanted] = []
        self.injected: Future[datetime] = Future()
        """When the faults are injected, which its last runs wait for."""
        self._target, self._deployment, self._runs = target, deployment, runs

    def create_runs(self) -> None:
        """Create each run when it is due, or as soon as that is possible."""
        begun = datetime.now(UTC)
        for number in range(self._runs):
            due = begun + number * _PACE
            if number >= self._runs - _AFTERWARDS:
                due = max(due, self.injected.result(timeout=300))
            time.sleep(max(0, (due - datetime.now(UTC)).total_seconds()))
            limit = None if number % 2 else _LIMIT
            self.create_run(Wanted(f"{self.mark}-{number}", due), {"limit": limit})

    def create_run(
        self,
        wanted: Wanted,
        parameters: Mapping[str, object],
        job_variables: Mapping[str, str] | None = None,
    ) -> UUID:
        """Create a run as soon as that is possible, and return its ID."""
        self.wanted.append(wanted)

        def create(prefect: SyncPrefectClient) -> UUID:
            return prefect.create_flow_run_from_deployment(
                self._deployment,
                name=wanted.name,
                parameters=dict(parameters),
                job_variables=dict(job_variables or {}),
                tags=[self.mark],
                idempotency_key=wanted.name,  # a lost answer does not mean that there is no run
            ).id

        return call_when_possible(self._target, create)


def _inject(target: Target, faults: tuple[Fault, ...], load: _Load) -> None:
    """Inject the faults while a run holds a slot, and heal them when the longest is over."""
    eventually(
        "a run holds a slot",
        lambda: any(row.limited and row.ended is None for row in _rows(target)),
    )
    load.injected.set_result(datetime.now(UTC))

    def inject(fault: Fault) -> None:
        if isinstance(fault, FaultOfRun):
            wanted = Wanted(f"{load.mark}-{fault.name}", datetime.now(UTC), crash=fault.reason)
            parameters = {"limit": None, **fault.parameters}
            run_id = load.create_run(wanted, parameters, fault.job_variables)
            fault.inject_into(target, run_id)
        else:
            fault.inject(target)

    try:
        in_parallel(*(partial(inject, fault) for fault in faults))
        time.sleep(max(fault.seconds for fault in faults))  # the outage that runs have to survive
    finally:
        # The faults of runs are healed by parts that other faults may have taken away.
        for fault in sorted(faults, key=lambda fault: isinstance(fault, FaultOfRun)):
            fault.heal(target)


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
                    self.slots.append(_slots(prefect))
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


def _slots(prefect: SyncPrefectClient) -> Slots:
    limit = prefect.read_global_concurrency_limit_by_name(_LIMIT)
    return Slots(datetime.now(UTC), limit.active_slots)


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


def _await_the_end(prefect: SyncPrefectClient, load: _Load) -> list[UUID]:
    """Wait until all runs of the load have ended, and return the ids of those that there are."""
    of_trial = filters.FlowRunFilter(tags=filters.FlowRunFilterTags(all_=[load.mark]))
    end = time.monotonic() + 300 + 10 * len(load.wanted)
    while True:
        found = when_possible(lambda: prefect.read_flow_runs(flow_run_filter=of_trial))
        ended = sum(run.state is not None and run.state.is_final() for run in found)
        if ended >= len(load.wanted) or time.monotonic() > end:
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

    def left() -> list[dict[str, Any]]:
        listed = target.listed(names.JOB_NAMESPACE, "jobs", _RUN_ID)
        return [job for job in listed if job["metadata"]["name"] not in before]

    wait_while(lambda: any(job["status"].get("active") for job in left()), 60, every=1)
    return tuple(
        Job(
            name=each["metadata"]["name"],
            active=bool(each["status"].get("active")),
            run_state=_state(prefect, each["metadata"]["labels"][_RUN_ID]),
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
