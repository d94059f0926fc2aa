"""Find runs that cannot start until a person corrects something."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect.client.schemas.objects import FlowRun, StateType

from prefect_platform import waiting_reasons
from prefect_platform.reaper.jobs import FlowRunJobs, Job
from prefect_platform.reaper.orphans import Orphan
from prefect_platform.reaper.periods import minutes


@dataclass(frozen=True)
class Unstartable:
    """A run that does not start, with the Job that would start it after all."""

    orphan: Orphan
    job: Job


async def unstartable(
    run: FlowRun,
    of_run: Collection[Job],
    jobs: FlowRunJobs,
    *,
    now: datetime,
    period: timedelta,
) -> Unstartable | None:
    """Return why a run will not start, or None when that is not certain.

    There are two signs, which must agree: the worker has found the reason, and the state that it
    then set has not changed for `period`; and Kubernetes gives the same reason now. Room in a quota
    or on a node is no such reason, because it comes when other runs end.
    """
    state = run.state
    if state is None or state.type != StateType.PENDING:
        return None
    waited = now - state.timestamp
    active = [job for job in of_run if job.end is None]
    if state.name not in waiting_reasons.UNSTARTABLE or waited < period or len(active) != 1:
        return None
    (job,) = active
    reason = await jobs.waiting_reason(job)
    if reason is None or reason.state != state.name:
        return None
    sentence = (
        f"{reason.sentence.rstrip('.')}. The run has been {state.name} for {minutes(waited)}, and "
        "waiting does not change that. Next step: correct the cause, then start the run again. The "
        "value reaper.unstartableSeconds of the chart prefect-worker sets how long this is "
        "tolerated."
    )
    return Unstartable(Orphan(run, "run_unstartable", sentence), job)
