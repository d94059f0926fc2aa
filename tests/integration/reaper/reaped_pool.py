"""A work pool of a real Prefect server, a fake Kubernetes, and a reaper that reconciles them."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes_asyncio import config
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State, WorkPool
from prefect.states import Completed

from prefect_platform.reaper.jobs import FlowRunJobs, Job
from prefect_platform.reaper.pass_report import PassReport
from prefect_platform.reaper.reaper import Reaper, ReaperPeriods
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

Hook = Callable[[], Awaitable[object]]


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
        at = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [{**end, "status": "True", "lastTransitionTime": at}] if end else []
        labels = {
            "prefect.io/flow-run-id": str(run),
            "prefect.io/work-pool-id": str(self.pool.id),
            **labels,
        }
        metadata = {"name": name, "labels": labels, "creationTimestamp": at}
        status = {"conditions": conditions}
        return self.kubernetes.put("jobs", {"metadata": metadata, "status": status})

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
        **seconds: float,
    ) -> AsyncIterator[tuple[Reaper, PassReport]]:
        """Yield a reaper and its report.

        `seconds` overrides its periods: no grace period, and an hour for each of the others.
        """
        defaults = {"grace": 0.0, "submission": 3600, "silence": 3600, "succeeded_job": 3600}
        periods = ReaperPeriods(
            **{k: timedelta(seconds=s) for k, s in {**defaults, **seconds}.items()}
        )
        report = PassReport(self.pool.name, dry_run)
        kubeconfig = str(self.kubernetes.kubeconfig)
        async with (
            PrefectClient(self.api_url) as client,
            await config.new_client_from_config(kubeconfig) as kubernetes,
        ):
            jobs = JobsWithHooks(kubernetes, NAMESPACE)
            jobs.before, jobs.after = before, after
            yield Reaper(client, jobs, periods, report), report

    def make_pass(
        self,
        *,
        dry_run: bool = False,
        before: Hook | None = None,
        after: Hook | None = None,
        **seconds: float,
    ) -> PassReport:
        """Make a pass and return its report."""

        async def go() -> PassReport:
            reaping = self.reaper(dry_run=dry_run, before=before, after=after, **seconds)
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
        **seconds: float,
    ) -> dict[str, int]:
        """Make a pass and return its counts."""
        return self.make_pass(dry_run=dry_run, before=before, after=after, **seconds).counts()

    async def complete(self, run: uuid.UUID) -> None:
        """Complete a run, as its own process would."""
        state: State[None] = Completed(message="by itself")
        async with PrefectClient(self.api_url) as client:
            await client.set_flow_run_state(run, state)
