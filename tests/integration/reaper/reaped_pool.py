"""A work pool of a real Prefect server, a fake Kubernetes, and a reaper that reconciles them.

The reaper has a clock of its own, so that no test waits for one of its periods.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes_asyncio import config
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State, WorkPool
from prefect.states import Completed

from prefect_platform.polling import wait_until
from prefect_platform.reaper.jobs import FlowRunJobs, Job
from prefect_platform.reaper.pass_report import PassReport
from prefect_platform.reaper.periods import ReaperPeriods
from prefect_platform.reaper.reaper import Reaper
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi

DEADLINE = {
    "type": "Failed",
    "reason": "DeadlineExceeded",
    "message": "Job was active longer than specified deadline",
}
BACKOFF = {
    "type": "Failed",
    "reason": "BackoffLimitExceeded",
    "message": "Job has reached the specified backoff limit",
}
COMPLETE = {"type": "Complete", "reason": "CompletionsReached", "message": ""}

_HOUR = timedelta(hours=1)
_PERIODS: dict[str, Any] = {
    "grace": timedelta(0),
    "submission": _HOUR,
    "unstartable": _HOUR,
    "silence": timedelta(0),
    "lost_node": _HOUR,
    "end_silent": None,
    "hooks": _HOUR,
    "succeeded_job": _HOUR,
}
_AT_ANY_TIME = {"until": "2100-01-01T00:00:00Z"}

Hook = Callable[[], Awaitable[object]]


def _time(later: float = 0) -> str:
    at = datetime.now(UTC) + timedelta(seconds=later)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class JobsWithHooks(FlowRunJobs):
    """Calls the hooks `before` and `after` around reading the Jobs of one run.

    The reaper reads them again right before it ends the run.
    """

    before: Hook | None = None
    after: Hook | None = None

    async def of_run(self, flow_run_id: uuid.UUID, name: str | None) -> list[Job]:
        if self.before:
            await self.before()
        jobs = await super().of_run(flow_run_id, name)
        if self.after:
            await self.after()
        return jobs


@dataclass(frozen=True)
class ReapedPool:
    """The work pool of one test."""

    api_url: str
    kubernetes: KubernetesApi
    client: SyncPrefectClient  # retries requests that a busy SQLite refuses
    pool: WorkPool
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def create(cls, api_url: str, kubernetes: KubernetesApi) -> "ReapedPool":
        client = SyncPrefectClient(api_url)
        created = WorkPoolCreate(name=f"pool-{uuid.uuid4().hex[:8]}", type="kubernetes")
        return cls(api_url, kubernetes, client, client.create_work_pool(created))

    def run(
        self, name: str = "Running", *, kind: str = "", job: str | None = None, **more: object
    ) -> uuid.UUID:
        """Create a run in the state `name`; `job` is recorded on it as the name of its Job."""
        body = {
            "flow_id": str(self.client.create_flow_from_name("reaped")),
            "work_pool_name": self.pool.name,
            "state": {"type": kind or name.upper(), "name": name, "message": "as before"},
            **more,
        }
        created = self.client.request("POST", "/flow_runs/", json=body)
        run = uuid.UUID(created.json()["id"])
        if job is not None:
            self.client.update_flow_run(run, infrastructure_pid=f"{NAMESPACE}:{job}")
        return run

    def called_by(self, parent: uuid.UUID, name: str = "Running") -> uuid.UUID:
        """Create a run that the run `parent` calls in its own process."""
        body = {"flow_run_id": str(parent), "task_key": "call", "dynamic_key": uuid.uuid4().hex}
        task_run = self.client.request("POST", "/task_runs/", json=body).json()["id"]
        return self.run(name, work_pool_name=None, parent_task_run_id=task_run)

    def job(
        self,
        run: object,
        name: str,
        end: dict[str, str] | None = None,
        *,
        seconds_ago: float = 0,
        **labels: str,
    ) -> dict[str, Any]:
        """Create the Job `name` of a run, with a creation time `seconds_ago`.

        `end` is the condition with which the Job ended at that same time, or None if it has not.
        """
        at = _time(-seconds_ago)
        conditions = [{**end, "status": "True", "lastTransitionTime": at}] if end else []
        labels = {
            "prefect.io/flow-run-id": str(run),
            "prefect.io/work-pool-id": str(self.pool.id),
            **labels,
        }
        metadata = {"name": name, "labels": labels, "creationTimestamp": at}
        status = {"conditions": conditions}
        return self.kubernetes.put("jobs", {"metadata": metadata, "status": status})

    def pod(
        self,
        run: object,
        *,
        phase: str = "Running",
        cut_off: float | None = None,
        deleted: float | None = None,
    ) -> None:
        """Create the pod of a run, with a container that runs, or does not with another phase.

        `cut_off` is how many seconds ago Kubernetes marked it because its node was not ready, and
        `deleted` how many seconds ago it should have ended, because it was deleted.
        """
        state = {"running": {"startedAt": _time()}} if phase == "Running" else {"waiting": {}}
        status = {"name": "prefect-job", "image": "flows", "imageID": "", "restartCount": 0}
        started = "True" if phase == "Running" else "False"
        conditions = {"ContainersReady": started, "Ready": "False" if cut_off else started}
        self.kubernetes.put(
            "pods",
            {
                "metadata": {
                    "name": f"pod-{run}",
                    "labels": {"prefect.io/flow-run-id": str(run)},
                    "deletionTimestamp": _time(-deleted) if deleted else None,
                },
                "spec": {"nodeName": "node-7", "containers": [{"name": "prefect-job"}]},
                "status": {
                    "phase": phase,
                    "containerStatuses": [{**status, "ready": started == "True", "state": state}],
                    "conditions": [
                        {"type": key, "status": each, "lastTransitionTime": _time(-(cut_off or 0))}
                        for key, each in conditions.items()
                    ],
                },
            },
        )

    def heartbeat(self, run: uuid.UUID, *, later: float = 0) -> None:
        """Send a heartbeat `later` seconds after the test began, and wait until it is stored."""
        event = {
            "id": str(uuid.uuid4()),
            "event": "prefect.flow-run.heartbeat",
            "occurred": (self.began + timedelta(seconds=later)).isoformat(),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        }
        self.client.request("POST", "/events", json=[event])
        found = {"id": {"id": [event["id"]]}, "occurred": _AT_ANY_TIME}
        assert wait_until(lambda: self.events(found), 60), "the server has not stored it"

    def events(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events on the server that a filter selects."""
        answer = self.client.request("POST", "/events/filter", json={"filter": wanted})
        found: list[dict[str, Any]] = answer.json()["events"]
        return found

    def jobs(self) -> set[str]:
        """Return the names of the existing Jobs."""
        return set(self.kubernetes.objects["jobs"])

    def state(self, run: uuid.UUID) -> tuple[str, str]:
        """Return the name and the message of a run's state."""
        state = self.client.read_flow_run(run).state
        assert state is not None
        return str(state.name), str(state.message)

    def states(self, run: uuid.UUID) -> list[str | None]:
        """Return the names of all states that a run has been in."""
        return [state.name for state in self.client.read_flow_run_states(run)]

    @asynccontextmanager
    async def reaper(
        self,
        *,
        dry_run: bool = False,
        before: Hook | None = None,
        after: Hook | None = None,
        later: float = 0,
        **seconds: float,
    ) -> AsyncIterator[tuple[Reaper, PassReport]]:
        """Yield a reaper and its report.

        With `later`, its clock stands that many seconds after the test began. `seconds` overrides
        its periods: by default a run is silent and ends at once, silent runs with a container are
        never ended, and each of the other periods is an hour.
        """
        periods = {**_PERIODS, **{key: timedelta(seconds=each) for key, each in seconds.items()}}
        report = PassReport(self.pool.name, dry_run)
        kubeconfig = str(self.kubernetes.kubeconfig)
        async with (
            PrefectClient(self.api_url) as client,
            await config.new_client_from_config(kubeconfig) as kubernetes,
        ):
            jobs = JobsWithHooks(kubernetes, NAMESPACE)
            jobs.before, jobs.after = before, after
            yield (
                Reaper(
                    client,
                    jobs,
                    ReaperPeriods(**periods),
                    report,
                    lambda: self.began + timedelta(seconds=later) if later else datetime.now(UTC),
                ),
                report,
            )

    def make_pass(
        self,
        *,
        dry_run: bool = False,
        before: Hook | None = None,
        after: Hook | None = None,
        later: float = 0,
        **seconds: float,
    ) -> PassReport:
        """Make a pass and return its report."""

        async def go() -> PassReport:
            reaping = self.reaper(
                dry_run=dry_run, before=before, after=after, later=later, **seconds
            )
            async with reaping as (reaper, report):
                await reaper.run()
            return report

        return asyncio.run(go())

    def reap(
        self,
        *,
        dry_run: bool = False,
        before: Hook | None = None,
        after: Hook | None = None,
        later: float = 0,
        **seconds: float,
    ) -> dict[str, int]:
        """Make a pass and return its counts."""
        return self.make_pass(
            dry_run=dry_run, before=before, after=after, later=later, **seconds
        ).counts()

    async def complete(self, run: uuid.UUID) -> None:
        """Complete a run, as its own process would."""
        state: State[None] = Completed(message="by itself")
        async with PrefectClient(self.api_url) as client:
            await client.set_flow_run_state(run, state)
