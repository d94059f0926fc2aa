"""Read every limit on concurrency from the server: its slots, who holds them, and who waits."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterId,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterId,
)
from prefect.client.schemas.objects import FlowRun, StateType, TaskRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from prefect_platform.configuration.core.prefect_api import pages

_TAG, _DEPLOYMENT = "tag:", "deployment:"  # prefixes that the server adds
_AWAITING, _RETRYING = "AwaitingConcurrencySlot", "AwaitingRetry"
_IN_POOL = (StateType.PENDING, StateType.RUNNING)  # the states that a work pool counts
_IN_DEPLOYMENT = (*_IN_POOL, StateType.CANCELLING)
_ACQUIRED, _RELEASED = (f"prefect.concurrency-limit.{each}" for each in ("acquired", "released"))
_RUN = "prefect.flow-run."
_EVENT_PAGES = 20  # of 50 events each: a slot that was taken before them has no known holder
_PAGE = 200  # the server's limit for one request


@dataclass(frozen=True)
class Holder:
    """A flow run that holds `slots` of a limit.

    `since` is the time of the event with which it took them, else that of its state.
    """

    run: str
    deployment: str
    state: str
    since: datetime | None
    ended: bool
    slots: int = 1


@dataclass(frozen=True)
class Limit:
    """A limit and its slots; `waiting` is None where Prefect does not record who waits."""

    kind: str
    name: str
    taken: int
    total: int
    holders: tuple[Holder, ...] = ()
    waiting: int | None = None

    @property
    def unattributed(self) -> int:
        """The number of taken slots whose holder is not known."""
        return max(0, self.taken - sum(holder.slots for holder in self.holders))


class ConcurrencyLimits:
    """The limits on a server: global ones, by tag, of deployments, of work pools and queues."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self._deployments: dict[UUID, str] = {}

    def read(self) -> Iterator[Limit]:
        """Yield every limit, each with the state that it has when it is read."""
        for found in pages(self._client, "/v2/concurrency_limits/filter"):
            yield self._stored(found)
        for pool in pages(self._client, "/work_pools/filter"):
            name = str(pool["name"])
            if pool["concurrency_limit"] is not None:
                of_pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[name]))
                yield self._work("work pool", name, pool, work_pool_filter=of_pool)
            for queue in pages(
                self._client, "/work_pools/{work_pool_name}/queues/filter", work_pool_name=name
            ):
                if queue["concurrency_limit"] is not None:
                    of_queue = WorkQueueFilter(id=WorkQueueFilterId(any_=[queue["id"]]))
                    called = f"{name}/{queue['name']}"
                    yield self._work("work queue", called, queue, work_queue_filter=of_queue)

    def _stored(self, found: Mapping[str, Any]) -> Limit:
        name, taken, total = str(found["name"]), int(found["active_slots"]), int(found["limit"])
        if (deployment_id := _deployment_id(name)) is not None:
            return self._deployment(deployment_id, taken, total)
        if name.startswith(_TAG):
            holders = tuple(self._task_runs_holding(found["id"])) if taken else ()
            return Limit("tag", name.removeprefix(_TAG), taken, total, holders)
        if found["slot_decay_per_second"]:
            return Limit("rate", name, taken, total)
        holders = tuple(self._runs_of_events(found["id"], taken)) if taken else ()
        return Limit("global", name, taken, total, holders)

    def _deployment(self, deployment_id: UUID, taken: int, total: int) -> Limit:
        of = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
        name = self._deployment_name(deployment_id) or str(deployment_id)
        runs = self._runs(_in_states(*_IN_DEPLOYMENT), deployment_filter=of)
        if (rest := taken - len(runs)) > 0:
            # A run that waits for a retry in its own process keeps the slot. One that was
            # rescheduled has released it, and its state looks the same.
            runs += self._runs(_named(_RETRYING), deployment_filter=of)[:rest]
        holders = tuple(self._holder(run) for run in runs if _has_lease(run))
        waiting = self._client.count_flow_runs(
            flow_run_filter=_named(_AWAITING), deployment_filter=of
        )
        return Limit("deployment", name, taken, total, holders, waiting)

    def _work(
        self,
        kind: str,
        name: str,
        found: Mapping[str, Any],
        **of: Any,  # noqa: ANN401 - one of Prefect's filters
    ) -> Limit:
        total = int(found["concurrency_limit"])
        runs = self._runs(_in_states(*_IN_POOL), **of)
        holders = tuple(self._holder(run) for run in runs)
        due = FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]),
                name=FlowRunFilterStateName(not_any_=[_AWAITING]),
            ),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(
                before_=datetime.now(UTC)
            ),
        )
        held_back = len(runs) >= total
        waiting = self._client.count_flow_runs(flow_run_filter=due, **of) if held_back else 0
        return Limit(kind, name, len(runs), total, holders, waiting)

    def _task_runs_holding(self, limit_id: str) -> Iterator[Holder]:
        """Yield a holder for each lease of a limit by tag, which names a task run."""
        found = self._client.request(
            "GET", "/concurrency_limits/{id}", path_params={"id": limit_id}
        ).json()
        task_runs: list[TaskRun] = []
        for start in range(0, len(found["active_slots"]), _PAGE):
            some = [UUID(each) for each in found["active_slots"][start : start + _PAGE]]
            of_ids = TaskRunFilter(id=TaskRunFilterId(any_=some))
            task_runs += self._client.read_task_runs(task_run_filter=of_ids, limit=_PAGE)
        runs = self._runs_by_id(run.flow_run_id for run in task_runs if run.flow_run_id)
        for task_run in task_runs:
            if task_run.flow_run_id in runs:
                yield self._holder(runs[task_run.flow_run_id])

    def _runs_of_events(self, limit_id: str, taken: int) -> Iterator[Holder]:
        """Yield the runs that, by their own events, took the newest `taken` slots and kept them.

        The API does not name the holders of leases of global limits.
        """
        acquired: list[tuple[UUID, datetime, int]] = []
        released: set[str] = set()
        for event in self._events(limit_id):
            if sum(slots for *_, slots in acquired) >= taken:
                break
            if event["event"] == _RELEASED:
                released.add(str(event["follows"]))
            elif event["id"] not in released and (found := _acquisition(event)):
                acquired.append(found)
        runs = self._runs_by_id(run_id for run_id, *_ in acquired)
        for run_id, since, slots in acquired:
            if run_id in runs:
                yield self._holder(runs[run_id], since, slots)
            else:
                yield Holder(str(run_id), "", "deleted", since, ended=True, slots=slots)

    def _events(self, limit_id: str) -> Iterator[Mapping[str, Any]]:
        """Yield the events about the slots of a limit, the newest first."""
        wanted = {
            "event": {"name": [_ACQUIRED, _RELEASED]},
            "resource": {"id": [f"prefect.concurrency-limit.{limit_id}"]},
            "order": "DESC",
        }
        page = self._client.request("POST", "/events/filter", json={"filter": wanted}).json()
        for _ in range(_EVENT_PAGES):
            yield from page["events"]
            if not page["next_page"]:
                return
            token = {"page-token": page["next_page"].partition("page-token=")[2]}
            page = self._client.request("GET", "/events/filter/next", params=token).json()

    def _holder(self, run: FlowRun, since: datetime | None = None, slots: int = 1) -> Holder:
        state = run.state
        return Holder(
            run.name,
            self._deployment_name(run.deployment_id) if run.deployment_id else "",
            (state and state.name) or "without a state",
            since or (state.timestamp if state else None),
            ended=state is not None and state.is_final(),
            slots=slots,
        )

    def _deployment_name(self, deployment_id: UUID) -> str:
        """Return FLOW/DEPLOYMENT; empty if the deployment was deleted."""
        if deployment_id not in self._deployments:
            try:
                found = self._client.read_deployment(deployment_id)
                name = f"{self._client.read_flow(found.flow_id).name}/{found.name}"
            except ObjectNotFound:
                name = ""
            self._deployments[deployment_id] = name
        return self._deployments[deployment_id]

    def _runs_by_id(self, ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
        wanted = sorted(set(ids))
        found: dict[UUID, FlowRun] = {}
        for start in range(0, len(wanted), _PAGE):
            of_ids = FlowRunFilter(id=FlowRunFilterId(any_=wanted[start : start + _PAGE]))
            found.update((run.id, run) for run in self._runs(of_ids))
        return found

    def _runs(
        self,
        wanted: FlowRunFilter,
        **of: Any,  # noqa: ANN401 - one of Prefect's filters
    ) -> list[FlowRun]:
        read = partial(self._client.read_flow_runs, sort=FlowRunSort.ID_DESC, limit=_PAGE)
        found: dict[UUID, FlowRun] = {}
        offset = 0
        while True:
            page = read(flow_run_filter=wanted, offset=offset, **of)
            found.update((run.id, run) for run in page)
            offset += _PAGE
            if len(page) < _PAGE:
                return list(found.values())


def _deployment_id(limit: str) -> UUID | None:
    """Return the deployment of a limit; people may give any name to a limit of their own."""
    try:
        return UUID(limit.removeprefix(_DEPLOYMENT)) if limit.startswith(_DEPLOYMENT) else None
    except ValueError:
        return None


def _acquisition(event: Mapping[str, Any]) -> tuple[UUID, datetime, int] | None:
    """Return the run that took slots, when, and how many; None if the event does not say."""
    slots = str(event["resource"].get("slots-acquired", ""))
    for each in event["related"]:
        resource = str(each["prefect.resource.id"])
        if resource.startswith(_RUN) and slots.isdecimal():
            try:
                run_id = UUID(resource.removeprefix(_RUN))
            except ValueError:
                return None
            return run_id, datetime.fromisoformat(event["occurred"]), int(slots)
    return None


def _has_lease(run: FlowRun) -> bool:
    details = run.state and run.state.state_details
    return bool(details and details.deployment_concurrency_lease_id)


def _named(name: str) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[name])))


def _in_states(*types: StateType) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))))
