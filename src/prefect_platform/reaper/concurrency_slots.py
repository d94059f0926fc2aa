"""Keep the slots of runs that wait, free those of ended holders, and report those without one."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.exceptions import PrefectHTTPStatusError

from prefect_platform.reaper.flow_runs import (
    is_unchanged,
    live_runs_of_deployment,
    run_now,
    task_runs_by_id,
)
from prefect_platform.reaper.pass_report import PassReport

_TAG, _DEPLOYMENT = "tag:", "deployment:"  # prefixes that the server adds
_PAGE = 200  # the API's limit per request
# More than outages of the API take: between two renewals, the slot must not be lost.
SLOT_KEPT = timedelta(hours=1)


@dataclass(frozen=True)
class _Taken:
    """A limit by tag or of a deployment: its ID, its name, and how many slots are taken."""

    id: str
    name: str
    slots: int


async def keep_slot(client: PrefectClient, run: FlowRun) -> None:
    """Renew the slot that a run holds in the limit of its deployment, if it still has it.

    Only a running run renews its slot itself.
    """
    if (
        run.state is None
        or (lease := run.state.state_details.deployment_concurrency_lease_id) is None
    ):
        return
    try:
        await client.renew_concurrency_lease(lease, SLOT_KEPT.total_seconds())
    except PrefectHTTPStatusError as error:
        if error.response.status_code != HTTPStatus.GONE:
            raise


class ConcurrencySlots:
    """One pass over the slots of every limit whose holders the API knows.

    These are limits by tag, whose leases name task runs, and limits of deployments. The holders of
    other global limits are not in the API.
    """

    def __init__(self, client: PrefectClient, grace: timedelta, report: PassReport) -> None:
        self._client = client
        self._grace = grace
        self._report = report

    async def run(self) -> None:
        """Make the pass; the first request that fails raises an error of httpx."""
        limits = await self._taken()
        await self._free_ended(limits)
        await self._report_unattributed()

    async def _taken(self) -> list[_Taken]:
        found: list[_Taken] = []
        offset = 0
        while True:
            response = await self._client.request(
                "POST", "/v2/concurrency_limits/filter", json={"limit": _PAGE, "offset": offset}
            )
            page: list[dict[str, Any]] = response.json()
            found += [_Taken(each["id"], each["name"], each["active_slots"]) for each in page]
            offset += _PAGE
            if len(page) < _PAGE:
                return [
                    limit
                    for limit in found
                    if limit.slots
                    and (limit.name.startswith(_TAG) or _deployment_id(limit.name) is not None)
                ]

    async def _free_ended(self, limits: list[_Taken]) -> None:
        """Free the slots by tag of task runs whose flow run has ended.

        Leases of the current client expire a minute after their process has ended. Those that the
        server creates for other clients last for a hundred years.
        """
        tags: defaultdict[UUID, list[str]] = defaultdict(list)
        for limit in limits:
            if limit.name.startswith(_TAG):
                for task_run_id in await self._task_runs_holding(limit):
                    tags[task_run_id].append(limit.name.removeprefix(_TAG))
        # A task run that the API does not know may still have to be recorded, so it keeps its slot.
        task_runs = await task_runs_by_id(self._client, tags.keys())
        for task_run in task_runs.values():
            if ended := await self._ended(task_run):
                await self._free(task_run, tags[task_run.id], ended)

    async def _ended(self, task_run: TaskRun) -> str:
        """Return how a task run, or the flow run in whose process it ran, has ended; or nothing.

        The state of a task run is recorded later than it changes, so that of its flow run counts.
        """
        now = datetime.now(UTC)
        if task_run.flow_run_id is None:
            state = self._long_final(task_run.state, now)
            return state and f"the task run {task_run.name} ({task_run.id}) is {state}"
        run = await run_now(self._client, task_run.flow_run_id)
        if run is None or not (state := self._long_final(run.state, now)):
            return ""
        # A delayed task runs in another process, and may outlive the run.
        states = await self._client.read_task_run_states(task_run.id)
        if any(each.state_details.deferred for each in states):
            return ""
        if not await is_unchanged(self._client, run):
            return ""
        return f"the run {run.name} ({run.id}) is {state}"

    def _long_final(self, state: State[Any] | None, now: datetime) -> str:
        """Return the name and time of a state that has been final for the grace period."""
        if state is None or not state.is_final() or now - state.timestamp < self._grace:
            return ""
        return f"{state.name} since {state.timestamp:%Y-%m-%dT%H:%M:%SZ}"

    async def _free(self, task_run: TaskRun, tags: list[str], ended: str) -> None:
        if not self._report.dry_run:
            # The route frees the slots that the leases of this task run hold, and no others.
            await self._client.request(
                "POST",
                "/concurrency_limits/decrement",
                json={"names": tags, "task_run_id": str(task_run.id)},
            )
        for tag in tags:
            name = f"{_TAG}{tag}"
            sentence = f"freed a slot of the concurrency limit {name}: {ended}"
            self._report.did("slot_of_ended_run", "concurrency_limit", name, sentence)

    async def _report_unattributed(self) -> None:
        """Report slots that have no holder, now and after the grace period, and leave them.

        A slot may have been taken or freed between two requests, and an expired lease is only
        found after some seconds.
        """
        if not (before := await self._unattributed()):
            return
        await asyncio.sleep(self._grace.total_seconds())
        for name, slots in (await self._unattributed()).items():
            if left := min(slots, before.get(name, 0)):
                self._report.saw(
                    "slot_without_holder",
                    "concurrency_limit",
                    name,
                    f"{left} slots of the concurrency limit {name} are taken, but have no holder; "
                    "they are left alone",
                )

    async def _unattributed(self) -> Mapping[str, int]:
        found = {}
        for limit in await self._taken():
            if (deployment_id := _deployment_id(limit.name)) is not None:
                holders = await live_runs_of_deployment(self._client, deployment_id)
            else:
                holders = len(await self._task_runs_holding(limit))
            if limit.slots > holders:
                found[limit.name] = limit.slots - holders
        return found

    async def _task_runs_holding(self, limit: _Taken) -> list[UUID]:
        response = await self._client.request(
            "GET", "/concurrency_limits/{id}", path_params={"id": limit.id}
        )
        return [UUID(each) for each in response.json()["active_slots"]]


def _deployment_id(limit: str) -> UUID | None:
    """Return the deployment of a limit; people may give any name to a limit of their own."""
    try:
        return UUID(limit.removeprefix(_DEPLOYMENT)) if limit.startswith(_DEPLOYMENT) else None
    except ValueError:
        return None
