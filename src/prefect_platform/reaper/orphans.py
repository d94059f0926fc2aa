"""Which flow runs wait for something that will not come: a judgement, and no request."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed

from prefect_platform.reaper.flow_runs import LIVE
from prefect_platform.reaper.jobs import Job

Reason = Literal["run_without_job", "run_with_ended_job", "run_never_submitted", "run_in_dead_run"]

# The worker's states before there is a Job; later ones tell of a Job or of its pod.
_SUBMITTING = ("Pending", "Submitting")


@dataclass(frozen=True)
class Orphan:
    """A run that nothing moves any more, and the sentence that its last state says."""

    run: FlowRun
    reason: Reason
    sentence: str

    def last_state(self) -> State[None]:
        """Return what becomes of the run: one that was being cancelled has been."""
        if self.run.state is not None and self.run.state.type == StateType.CANCELLING:
            return Cancelled(message=self.sentence)
        return Crashed(message=self.sentence)


def job_name(run: FlowRun, namespace: str) -> str | None:
    """Return the name of the Job of `namespace` that the worker has noted with the run."""
    within, _, name = (run.infrastructure_pid or "").partition(":")
    return name if name and within == namespace else None


def orphan(
    run: FlowRun,
    jobs: Collection[Job],
    *,
    namespace: str,
    now: datetime,
    submission: timedelta,
) -> Orphan | None:
    """Return why a run of a work pool is orphaned, or None when it is not, or not for sure.

    `jobs` are the Jobs that the run has in `namespace`, read after the run: its Job is made before
    it is noted, so that a missing one is gone and not to come. Between two attempts of a run both
    the note and an ended Job are of the earlier one: hence a run that a worker submits is given the
    time `submission`, more than a worker takes that waits for the API.
    """
    state, noted = run.state, job_name(run, namespace)
    if state is None or state.type not in LIVE or any(job.end is None for job in jobs):
        return None
    submitting = state.type == StateType.PENDING and (state.name in _SUBMITTING or noted is None)
    elsewhere = noted is None and run.infrastructure_pid  # where nothing is seen from here
    if elsewhere or (submitting and now - state.timestamp < submission):
        return None
    if noted is not None and not submitting and noted not in {job.name for job in jobs}:
        return Orphan(
            run,
            "run_without_job",
            f"The Job {namespace}/{noted} does not exist any more, and the run was still "
            f"{state.name}.",
        )
    # Kubernetes' times are whole seconds.
    since = state.timestamp - timedelta(microseconds=state.timestamp.microsecond)
    ended = [job for job in jobs if not submitting or job.created >= since]
    if ended:
        last = max(ended, key=lambda job: job.created)
        cause = last.end.cause if last.end else ""
        return Orphan(
            run,
            "run_with_ended_job",
            f"The Job {last} has ended ({cause}), and the run was still {state.name}.",
        )
    if submitting:
        return Orphan(
            run,
            "run_never_submitted",
            f"The run was {state.name} for {_minutes(now - state.timestamp)} without a Job in "
            f"{namespace}: the worker that had taken it does not submit it any more.",
        )
    return None  # somebody runs it without a Job


def orphan_inside(run: FlowRun, outer: FlowRun, jobs_of_outer: Collection[Job]) -> Orphan | None:
    """Return why `run`, which lives in the process of `outer`, is orphaned, or None.

    Prefect ends what a cancelled run has called, and leaves alone what any other has. A call may
    outlive the run that made it as long as the process is there, which ends with the Job.
    """
    state = outer.state
    if state is None or not state.is_final() or state.is_cancelled():
        return None
    if run.state is None or any(job.end is None for job in jobs_of_outer):
        return None
    return Orphan(
        run,
        "run_in_dead_run",
        f"The run was still {run.state.name} when the run {outer.name}, in whose process it lived, "
        f"had ended {state.name}.",
    )


def _minutes(time: timedelta) -> str:
    return f"{time.total_seconds() / 60:.0f} min"
