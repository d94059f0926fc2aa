"""Decide which flow runs are orphaned; this module sends no requests."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Literal

from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed

from prefect_platform.reaper.flow_runs import LIVE
from prefect_platform.reaper.jobs import Job
from prefect_platform.reaper.periods import ReaperPeriods, minutes
from prefect_platform.reaper.pods import Pod

Reason = Literal[
    "run_without_job",
    "run_with_ended_job",
    "run_on_lost_node",
    "run_in_dead_run",
    "run_silent_too_long",
    "run_unstartable",
]

# The states that the worker sets before there is a Job; the later ones imply one.
_SUBMITTING = ("Pending", "Submitting")


@dataclass(frozen=True)
class Orphan:
    """A run that nothing will move on, and the message for its final state."""

    run: FlowRun
    reason: Reason
    sentence: str

    def last_state(self) -> State[None]:
        """Return the final state: Cancelled for a run that was being cancelled, else Crashed."""
        if self.run.state is not None and self.run.state.type == StateType.CANCELLING:
            return Cancelled(message=self.sentence)
        return Crashed(message=self.sentence)


def job_name(run: FlowRun, namespace: str) -> str | None:
    """Return the name of the run's Job, as the worker has recorded it; None if not `namespace`."""
    within, _, name = (run.infrastructure_pid or "").partition(":")
    return name if name and within == namespace else None


def is_elsewhere(run: FlowRun, namespace: str) -> bool:
    """Return whether the Job of a run is in another namespace, according to the worker's record."""
    return bool(run.infrastructure_pid) and job_name(run, namespace) is None


def is_submitting(run: FlowRun) -> bool:
    """Return whether the Job of a run's current attempt may still have to be created.

    Between two attempts, the record of a Job on the run belongs to the earlier one.
    """
    return run.state_type == StateType.PENDING and (
        run.state_name in _SUBMITTING or run.infrastructure_pid is None
    )


def jobs_of_attempt(states: Sequence[State[None]], jobs: Collection[Job]) -> list[Job]:
    """Return those of its Jobs that were created since a worker last took a pending run.

    `states` are all states of the run, oldest first. The current one may be younger than the Job:
    the worker's observer also sets states.
    """
    if not (pending := list(takewhile(State.is_pending, reversed(states)))):
        return []  # the run has moved on since it was read
    since = pending[-1].timestamp.replace(microsecond=0)  # Kubernetes' are whole seconds
    return [job for job in jobs if job.created >= since]


def orphan(
    run: FlowRun,
    jobs: Collection[Job],
    pods: Collection[Pod],
    states: Sequence[State[None]],
    *,
    namespace: str,
    now: datetime,
    periods: ReaperPeriods,
) -> Orphan | None:
    """Return why a run of a work pool is orphaned, or None when that is not certain.

    The run must have given no sign of life for the period `silence`; what Kubernetes says about its
    container is the second sign. `jobs` and `pods` are those of the run in `namespace` and must be
    read after the run; pods that have ended are not among them. `states` are all states of a run
    that is being submitted, oldest first.
    """
    silent = f"It has sent no heartbeat for {minutes(periods.silence)}."
    if any(not pod.is_lost(now, periods.lost_node) for pod in pods):
        return None
    if (
        found := _without_job(run, jobs, states, namespace=namespace, now=now, periods=periods)
    ) is not None:
        reason, sentence = found
        return Orphan(run, reason, f"{sentence} {silent}")
    lost = next(iter(pods), None)
    given_back = run.state_type == StateType.PENDING and all(job.end for job in jobs)
    if lost is None or given_back:
        return None
    return Orphan(
        run,
        "run_on_lost_node",
        f"{lost.loss()}, but the run was still {run.state_name}. {silent}",
    )


def _without_job(
    run: FlowRun,
    jobs: Collection[Job],
    states: Sequence[State[None]],
    *,
    namespace: str,
    now: datetime,
    periods: ReaperPeriods,
) -> tuple[Reason, str] | None:
    """Return why no Job will run or runs a container for a run, or None when that is not certain.

    The worker creates a Job before it records the name on the run, so a recorded Job that is
    missing has been deleted. A run that has no Job yet is left to the class Submissions.
    """
    state, noted = run.state, job_name(run, namespace)
    if state is None or state.type not in LIVE or any(job.end is None for job in jobs):
        return None
    submitting = is_submitting(run)
    if is_elsewhere(run, namespace) or (submitting and now - state.timestamp < periods.submission):
        return None
    if noted is not None and not submitting and noted not in {job.name for job in jobs}:
        return (
            "run_without_job",
            f"The Job {namespace}/{noted} no longer exists, but the run was still {state.name}.",
        )
    if not (ended := jobs_of_attempt(states, jobs) if submitting else jobs):
        return None  # the run has no Job yet, or is executed by something other than a Job
    last = max(ended, key=lambda job: job.created)
    cause = last.end.cause if last.end else ""
    return (
        "run_with_ended_job",
        f"The Job {last} has ended ({cause}), but the run was still {state.name}.",
    )


def overdue(run: FlowRun, silent_for: timedelta) -> Orphan:
    """Return a run whose container may live, but which has been silent for too long."""
    return Orphan(
        run,
        "run_silent_too_long",
        f"The run has sent no heartbeat for {minutes(silent_for)}, and nothing says that its "
        "container has ended: it probably hangs. The value reaper.endSilentSeconds of the chart "
        "prefect-worker sets how long this is tolerated.",
    )


def orphan_inside(
    run: FlowRun, outer: FlowRun, jobs_of_outer: Collection[Job], pods_of_outer: Collection[Pod]
) -> Orphan | None:
    """Return why `run`, which lives in the process of `outer`, is orphaned, or None.

    When a run is cancelled, Prefect also ends the runs that it called; for other final states it
    does not. A called run may outlive its caller as long as the process exists, that is, until the
    Job and its pods have ended.
    """
    state = outer.state
    if state is None or not state.is_final() or state.is_cancelled():
        return None
    if run.state is None or pods_of_outer or any(job.end is None for job in jobs_of_outer):
        return None
    return Orphan(
        run,
        "run_in_dead_run",
        f"The run was still {run.state.name} after the run {outer.name}, in whose process it ran, "
        f"had ended in the state {state.name}.",
    )
