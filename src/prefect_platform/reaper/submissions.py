"""Give back runs that a worker has taken, but for which it has created no Job.

A worker sets a run to Pending, which takes a slot of its deployment, and then creates its Job. If
the worker is killed in between, no worker looks at the run again: they look for Scheduled runs.
Such a run has computed nothing, so it is scheduled again instead of ended. A worker that was only
slow finds that out before it creates the Job (prefect_platform.worker.submission).
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed, Scheduled

from prefect_platform.reaper.flow_runs import set_state
from prefect_platform.reaper.jobs import FlowRunJobs, Job
from prefect_platform.reaper.orphans import (
    is_elsewhere,
    is_submitting,
    job_name,
    jobs_of_attempt,
)
from prefect_platform.reaper.pass_report import PassReport
from prefect_platform.reaper.periods import ReaperPeriods, minutes
from prefect_platform.reaper.pods import Pod

# After so many attempts in a row, the run itself probably kills its workers.
_MOST_ATTEMPTS = 5


class Submissions:
    """The runs of one work pool that its workers have been submitting for too long."""

    def __init__(
        self,
        client: PrefectClient,
        jobs: FlowRunJobs,
        periods: ReaperPeriods,
        report: PassReport,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._periods = periods
        self._report = report
        self._now = clock

    async def give_back(
        self, runs: Collection[FlowRun], of_runs: Mapping[UUID, Collection[Job]]
    ) -> None:
        """Schedule those of `runs` again that have no Job; `of_runs` are all Jobs by run."""
        for run in runs:
            if self._is_late(run) and not _active(of_runs.get(run.id, ())):
                await self._give_back(run)

    def _is_late(self, run: FlowRun) -> bool:
        submitting = is_submitting(run) and not is_elsewhere(run, self._jobs.namespace)
        return submitting and self._waiting(run) >= self._periods.submission

    async def _give_back(self, run: FlowRun) -> None:
        # Read the Jobs again right before the run: others may have been created meanwhile.
        jobs = await self._jobs.of_run(run.id, job_name(run, self._jobs.namespace))
        pods = await self._jobs.pods_of_run(run.id)
        states = await self._client.read_flow_run_states(run.id)
        # A Job of the current attempt that has ended tells how; the run is then an orphan.
        if _active(jobs) or jobs_of_attempt(states, jobs) or self._may_run(pods):
            return
        state = self._next_state(run, attempts_without_job(states))
        if await set_state(self._client, run, state, dry_run=self._report.dry_run):
            self._report.did(
                "run_never_submitted" if state.is_final() else "run_given_back",
                "flow_run",
                str(run.id),
                f"set the run {run.name} ({run.id}) to {state.name}: {state.message}",
            )

    def _may_run(self, pods: Collection[Pod]) -> bool:
        return any(not pod.is_lost(self._now(), self._periods.lost_node) for pod in pods)

    def _next_state(self, run: FlowRun, attempts: int) -> State[None]:
        what = (
            f"The run was {run.state_name} for {minutes(self._waiting(run))} without a Job in "
            f"{self._jobs.namespace}: the worker that took it was probably stopped."
        )
        if attempts < _MOST_ATTEMPTS:
            return Scheduled(message=f"{what} It is given to a worker again.")
        return Crashed(
            message=f"{what} This has happened {attempts} times in a row. Next step: read why the "
            "workers were stopped with `kubectl describe pods --all-namespaces --selector "
            "app.kubernetes.io/component=worker`, then start the run again."
        )

    def _waiting(self, run: FlowRun) -> timedelta:
        return self._now() - run.state.timestamp if run.state is not None else timedelta(0)


def attempts_without_job(states: list[State[None]]) -> int:
    """Return how many attempts in a row, up to the current one, have created no Job.

    `states` are all states of a run, oldest first. The state AwaitingRetry is set by a pod.
    """
    attempts = 0
    for state in reversed(states):
        if state.is_pending():
            attempts += state.name == "Pending"  # the first state that a worker sets
        elif not state.is_scheduled() or state.name == "AwaitingRetry":
            break
    return attempts


def _active(jobs: Collection[Job]) -> bool:
    return any(job.end is None for job in jobs)
