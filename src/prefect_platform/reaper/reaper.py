"""End flow runs whose container is gone, and delete Jobs whose flow run is gone.

After a worker was killed, a node was lost or an observer was down, Prefect and Kubernetes disagree
about a run, and neither checks again. A pass compares the two and reconciles the differences. It
ends a run only if both say that it is dead: Kubernetes about its container, and its missing
heartbeats. If only the heartbeats are missing, it names the run. A run that has not started is left
waiting, unless both say that it cannot start. Passes share no state and can safely overlap.
"""

import argparse
import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import httpx
from kubernetes_asyncio.client import ApiClient
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType, WorkPool
from prefect.exceptions import ObjectNotFound

from prefect_platform import container, kubernetes_client, waiting_reasons
from prefect_platform.api_failures import IN_A_POD, MISSING_POOL, describe
from prefect_platform.errors import PlatformError
from prefect_platform.reaper.concurrency_slots import ConcurrencySlots, keep_slot
from prefect_platform.reaper.flow_runs import (
    beating_runs,
    is_unchanged,
    live_runs,
    run_now,
    runs_by_id,
    runs_inside_others,
    set_state,
)
from prefect_platform.reaper.jobs import FlowRunJobs, Job
from prefect_platform.reaper.orphans import (
    Orphan,
    is_elsewhere,
    is_submitting,
    job_name,
    orphan,
    orphan_inside,
    overdue,
)
from prefect_platform.reaper.pass_report import PassReport, say_summary
from prefect_platform.reaper.periods import ReaperPeriods, minutes
from prefect_platform.reaper.submissions import Submissions
from prefect_platform.reaper.waiting_runs import unstartable

JobsOfRuns = Mapping[UUID, Collection[Job]]

_PERIODS = (
    *("grace", "submission", "unstartable", "silence", "lost-node", "hooks"),
    "succeeded-job-ttl",
)


class Reaper:
    """One pass over one work pool, all of whose Jobs are in one namespace."""

    def __init__(
        self,
        client: PrefectClient,
        jobs: FlowRunJobs,
        periods: ReaperPeriods,
        report: PassReport,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._periods = periods
        self._report = report
        self._now = clock
        self._submissions = Submissions(client, jobs, periods, report, clock)

    async def run(self) -> None:
        """Make the pass; the first request that fails raises PlatformError or an error of httpx."""
        try:
            work_pool = await self._client.read_work_pool(self._report.pool)
        except ObjectNotFound as error:
            # The configuration of a new release creates the pool some minutes after the first pass.
            if not await self._jobs.all():
                self._report.saw(
                    "pool_missing",
                    "work_pool",
                    self._report.pool,
                    "waits for the work pool, which the API does not know; there are no Jobs of "
                    f"flow runs in {self._jobs.namespace}. Next step: {MISSING_POOL}",
                )
                return
            raise PlatformError(
                f"The API does not know the work pool {self._report.pool}, so its Jobs in "
                f"{self._jobs.namespace} are left alone",
                next_step=MISSING_POOL,
            ) from error
        # Read runs before Jobs: a Job that a run had at that time is then either listed or deleted.
        # In the reverse order, a Job that is created in between would be missed.
        runs = await live_runs(self._client, work_pool.name)
        inner = await runs_inside_others(self._client)
        jobs = await self._jobs.all()
        self._report.runs, self._report.jobs = len(runs), len(jobs)
        of_runs: defaultdict[UUID, list[Job]] = defaultdict(list)
        for job in jobs:
            of_runs[job.flow_run_id].append(job)

        try:
            not_kept = await self._keep_slots(runs, of_runs)
            await self._delete_jobs(work_pool, jobs)
            await self._submissions.give_back(runs, of_runs)
            silent = await self._silent(runs, self._periods.silence)
            suspects = {
                run.id: run for run in silent if await self._judge(run, of_runs.get(run.id, ()))
            }
            await self._name_silent([run for run in silent if run.id not in suspects], of_runs)
            await self._end_orphans(work_pool, suspects.values(), inner, of_runs)
            await self._end_unstartable(runs, of_runs)
            if not_kept is not None:
                raise not_kept
        finally:
            await self._report.send(self._client, work_pool)

    async def _keep_slots(
        self, runs: Collection[FlowRun], of_runs: JobsOfRuns
    ) -> httpx.HTTPError | None:
        """Renew the slots of runs whose Job waits for its pod, so that they can start later.

        Return the last error: the rest of the pass does not depend on it.
        """
        failed = None
        for run in runs:
            waits = any(job.end is None for job in of_runs.get(run.id, ()))
            if waits and run.state_type == StateType.PENDING and not self._report.dry_run:
                try:
                    await keep_slot(self._client, run)
                except httpx.HTTPError as error:
                    failed = error
        return failed

    async def _silent(self, runs: Collection[FlowRun], period: timedelta) -> list[FlowRun]:
        """Return the runs that have given no sign of life for a period.

        Heartbeats and changes of state are such signs. A run that does not execute its flow yet, or
        any more, sends no heartbeats.
        """
        since = self._now() - period
        settled = [run for run in runs if run.state is not None and run.state.timestamp <= since]
        beating = await beating_runs(self._client, {run.id for run in settled}, since=since)
        return [run for run in settled if run.id not in beating]

    async def _name_silent(self, silent: list[FlowRun], of_runs: JobsOfRuns) -> None:
        """Name Running runs that send no heartbeats, but whose container may not have ended.

        They may well be computing, with heartbeats turned off or with a heartbeat thread that gets
        no CPU or no Global Interpreter Lock; ending them could lose hours of work. Their pod is
        ended by its deadline, and by the period `end_silent`, if there is one. A run without a Job
        may be executed by something else.
        """
        running = [
            run
            for run in silent
            if run.state is not None
            and run.state.type == StateType.RUNNING
            and (run.id in of_runs or not is_elsewhere(run, self._jobs.namespace))
        ]
        limit = self._periods.end_silent
        late = {run.id for run in await self._silent(running, limit)} if limit else set()
        for run in running:
            if limit and run.id in late:
                await self._end(overdue(run, limit))
            else:
                self._report.name_silent(run, minutes(self._periods.silence))

    async def _end_unstartable(self, runs: Collection[FlowRun], of_runs: JobsOfRuns) -> None:
        """End runs that cannot start, and delete their Jobs, so that no pod starts later."""
        for run in runs:
            found = await unstartable(
                run,
                of_runs.get(run.id, ()),
                self._jobs,
                now=self._now(),
                period=self._periods.unstartable,
            )
            if found is not None and await self._end(found.orphan):
                why = f"its run {run.name} does not start"
                await self._delete(found.job, "job_of_dead_run", why)

    async def _delete_jobs(self, work_pool: WorkPool, jobs: list[Job]) -> None:
        """Delete Jobs whose run was deleted or is dead, and old Jobs that succeeded.

        Only Jobs with the id of this pool are considered. After a move to another server, or to an
        empty one, the Jobs of the previous server are left to their own TTL.
        """
        now = self._now()
        ours = [
            job
            for job in jobs
            if job.work_pool_id == str(work_pool.id) and now - job.created >= self._periods.grace
        ]
        # Runs are read after Jobs here: a run exists before its Job, so a missing run was deleted.
        runs = await runs_by_id(self._client, {job.flow_run_id for job in ours})
        for job in ours:
            run = runs.get(job.flow_run_id)
            if run is None:
                # Absence from a list is no proof; the API must answer that the run does not exist.
                if await run_now(self._client, job.flow_run_id) is None:
                    why = f"its run {job.flow_run_id} was deleted"
                    await self._delete(job, "job_without_run", why)
            elif self._is_over(job, now) and run.state is not None and run.state.is_final():
                # Keep the Job until its run is final: its condition becomes the run's message.
                await self._delete(job, "job_succeeded", "it has succeeded")
            elif (
                job.end is None
                and await self._is_dead(run, now)
                and await is_unchanged(self._client, run)
            ):
                why = f"its run {run.name} is {run.state_name}, but its pod still runs or waits"
                await self._delete(job, "job_of_dead_run", why)

    async def _is_dead(self, run: FlowRun, now: datetime) -> bool:
        """Return whether a run has been Crashed or Cancelled for so long that its pod must end.

        A pod that waits, for example for its image, must not start after the grace period: it would
        occupy the node and might execute a run that was restarted in the meantime. A container that
        runs may execute hooks of the flow for the period `hooks`. The process of a run that failed
        or completed exits by itself.
        """
        state = run.state
        if state is None or state.type not in (StateType.CRASHED, StateType.CANCELLED):
            return False
        if (dead_for := now - state.timestamp) < self._periods.grace:
            return False
        if dead_for >= self._periods.hooks:
            return True
        return not any(pod.started for pod in await self._jobs.pods_of_run(run.id))

    def _is_over(self, job: Job, now: datetime) -> bool:
        end = job.end
        return end is not None and end.succeeded and now - end.at >= self._periods.succeeded_job

    async def _delete(self, job: Job, reason: str, why: str) -> None:
        if self._report.dry_run or await self._jobs.delete(job):
            self._report.did(reason, "job", str(job), f"deleted the Job {job}: {why}")

    async def _end_orphans(
        self,
        work_pool: WorkPool,
        suspects: Collection[FlowRun],
        inner: list[tuple[FlowRun, FlowRun]],
        of_runs: JobsOfRuns,
    ) -> None:
        """End the runs that are orphaned now and still are, unchanged, after the grace period.

        The grace period gives others time to end the run properly: its pod, which may still be
        shutting down after its Job was deleted, and Prefect's observer.
        """
        inside = {
            run.id: (run, outer)
            for run, outer in inner
            if outer.work_pool_name == work_pool.name
            and orphan_inside(run, outer, of_runs.get(outer.id, ()), ())
        }
        if suspects or inside:
            await asyncio.sleep(self._periods.grace.total_seconds())
        for run in await self._silent(suspects, self._periods.silence):
            # Read the Jobs again, then the run, right before it is ended: a new attempt with a Job
            # of its own would have changed the state of the run.
            await self._end(await self._judge(run, await self._jobs_of(run)))
        silent = await self._silent([run for run, _ in inside.values()], self._periods.silence)
        for run, outer in [inside[each.id] for each in silent]:
            jobs = await self._jobs_of(outer)
            pods = await self._jobs.pods_of_run(outer.id)
            if (outer_now := await run_now(self._client, outer.id)) is not None:
                await self._end(orphan_inside(run, outer_now, jobs, pods))

    async def _judge(self, run: FlowRun, jobs: Collection[Job]) -> Orphan | None:
        if run.state_name in waiting_reasons.WITHOUT_NODE and any(job.end is None for job in jobs):
            return None  # there can be hundreds of such runs
        return orphan(
            run,
            jobs,
            await self._jobs.pods_of_run(run.id),
            await self._client.read_flow_run_states(run.id) if is_submitting(run) else [],
            namespace=self._jobs.namespace,
            now=self._now(),
            periods=self._periods,
        )

    async def _jobs_of(self, run: FlowRun) -> list[Job]:
        return await self._jobs.of_run(run.id, job_name(run, self._jobs.namespace))

    async def _end(self, found: Orphan | None) -> bool:
        if found is None:
            return False
        run, state = found.run, found.last_state()
        ended = await set_state(self._client, run, state, dry_run=self._report.dry_run)
        if ended:
            self._report.did(
                found.reason,
                "flow_run",
                str(run.id),
                f"set the run {run.name} ({run.id}) to {state.name}: {found.sentence}",
            )
        return ended


async def _attempt(
    report: PassReport, go: Callable[[PrefectClient], Awaitable[None]]
) -> str | None:
    """Make a pass with a client of its own; on failure, log the error and return what it covers."""
    try:
        with describe(os.environ["PREFECT_API_URL"], IN_A_POD):
            async with get_client() as client:
                await go(client)
    except PlatformError as error:
        container.say(f"{report.pool}: {error}")
        return report.pool
    return None


async def make_pass(pools: Mapping[str, str], periods: ReaperPeriods, *, dry_run: bool) -> None:
    """Make a pass over all `pools`, given by name with their namespace, and over the limits.

    The passes run concurrently, because each may wait for the grace period. Raises PlatformError at
    the end when any of them failed.
    """
    started = time.monotonic()
    reports = [PassReport(pool, dry_run) for pool in pools]
    slots = PassReport("concurrency limits", dry_run)

    async def reap(kubernetes: ApiClient, report: PassReport, client: PrefectClient) -> None:
        jobs = FlowRunJobs(kubernetes, pools[report.pool])
        await Reaper(client, jobs, periods, report).run()

    async def free_slots(client: PrefectClient) -> None:
        await ConcurrencySlots(client, periods.grace, slots).run()

    async with await kubernetes_client.connect() as kubernetes:
        outcomes = await asyncio.gather(
            *(_attempt(report, partial(reap, kubernetes, report)) for report in reports),
            _attempt(slots, free_slots),
        )
    failed = [part for part in outcomes if part is not None]
    say_summary(reports, slots, failed, time.monotonic() - started)
    if failed:
        raise PlatformError(
            f"The pass failed for {len(failed)} of {len(outcomes)} parts: {', '.join(failed)}",
            next_step="read the errors above; the next pass tries again",
        )


def _seconds(text: str) -> timedelta:
    return timedelta(seconds=float(text))


def arguments_parser() -> argparse.ArgumentParser:
    """Return the parser for the arguments that the chart passes."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.reaper.reaper")
    parser.add_argument("pools", nargs="+", metavar="POOL=NAMESPACE")
    parser.add_argument("--dry-run", action="store_true")
    for name in _PERIODS:
        parser.add_argument(f"--{name}", type=_seconds, required=True, metavar="SECONDS")
    parser.add_argument("--end-silent", type=_seconds, metavar="SECONDS")
    return parser


def main() -> None:
    """Make one pass against the API that Prefect's own settings name."""
    arguments = arguments_parser().parse_args()
    periods = ReaperPeriods(
        grace=arguments.grace,
        submission=arguments.submission,
        unstartable=arguments.unstartable,
        silence=arguments.silence,
        lost_node=arguments.lost_node,
        end_silent=arguments.end_silent,
        hooks=arguments.hooks,
        succeeded_job=arguments.succeeded_job_ttl,
    )
    pools = dict(each.split("=", 1) for each in arguments.pools)
    asyncio.run(make_pass(pools, periods, dry_run=arguments.dry_run))


if __name__ == "__main__":
    container.run(main)
