"""Preview the runs of the declared schedules, with the effects of clock changes and limits."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from prefect._vendor.croniter.croniter import croniter
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, NoSchedule

from prefect_platform.configuration.core.resource import Body, Declared, Kind
from prefect_platform.configuration.deployments import schedules
from prefect_platform.configuration.deployments.schedule_runs import runs

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Coming:
    """A run that a schedule will start.

    `time` is in the schedule's time zone; `marks` are remarks, such as the effect of a limit.
    """

    time: dt.datetime
    deployment: str
    schedule: str
    marks: tuple[str, ...] = ()


def coming(declared: Sequence[Declared], start: dt.datetime, end: dt.datetime) -> list[Coming]:
    """Return all runs from `start` to `end`, sorted by time; paused schedules have none."""
    deployments = {
        each.key.name: each.body for each in declared if each.key.kind is Kind.DEPLOYMENT
    }
    found = [
        each
        for name, body in deployments.items()
        if not body.get("paused")
        for schedule in body["schedules"]
        if body.get(schedules.active_key(schedule["slug"]), True)
        for each in _of_schedule(name, schedule, start, end)
    ]
    found.sort(key=lambda each: (each.time, each.deployment, each.schedule))
    return list(_with_clashes(found, deployments, _limits(declared)))


def _of_schedule(
    deployment: str, body: schedules.Schedule, start: dt.datetime, end: dt.datetime
) -> Iterator[Coming]:
    made = DeploymentScheduleCreate(**schedules.create(body, active=True)).schedule
    assert not isinstance(made, NoSchedule)  # noqa: S101 - the file cannot say it
    zone = ZoneInfo(body.get("timezone") or "UTC")
    before: dt.datetime | None = None
    for run in runs(made, start, end):
        local = run.astimezone(zone)
        marks = []
        if isinstance(made, CronSchedule) and not croniter.match(  # type: ignore[no-untyped-call]
            made.cron, local.replace(tzinfo=None), day_or=made.day_or
        ):
            marks.append("the clock change skips its time: it runs after the gap")
        if isinstance(made, CronSchedule) and _comes_twice(local):
            marks.append("its hour occurs twice that day: it runs the first time only")
        if isinstance(made, IntervalSchedule) and made.interval < _DAY:
            # Prefect compares local clock times, so it drops the second of two equal ones.
            if before and run - before > made.interval:
                marks.append("the run before it is lost: its hour occurs twice that day")
            before = run
        yield Coming(local, deployment, body["slug"], tuple(marks))


def _comes_twice(time: dt.datetime) -> bool:
    return time.utcoffset() != time.replace(fold=1 - time.fold).utcoffset()


def _limits(declared: Sequence[Declared]) -> dict[str, int]:
    """Return the concurrency limits of work pools and queues, by `str(key)`."""
    return {
        str(each.key): limit
        for each in declared
        if each.key.kind in {Kind.WORK_POOL, Kind.WORK_QUEUE}
        and (limit := each.body["concurrency_limit"]) is not None
    }


def _with_clashes(
    found: Sequence[Coming], deployments: Mapping[str, Body], limits: Mapping[str, int]
) -> Iterator[Coming]:
    """Yield all runs, and mark those that exceed a concurrency limit when they are due."""
    due: defaultdict[tuple[dt.datetime, str], int] = defaultdict(int)
    for each in found:
        body, marks = deployments[each.deployment], list(each.marks)
        own = {f"deployment {each.deployment}": body["concurrency_limit"]}
        pool, queue = body["work_pool"], body["work_queue"] or "default"
        for place in (*own, f"work queue {pool}/{queue}", f"work pool {pool}"):
            limit = own.get(place, limits.get(place))
            due[each.time, place] += 1
            if isinstance(limit, int) and due[each.time, place] > limit:
                what = "is cancelled" if place in own and _cancels(body) else "waits"
                marks.append(f"{what}: the {place} allows {limit} at a time")
        yield replace(each, marks=tuple(marks))


def _cancels(body: Body) -> bool:
    options = body["concurrency_options"] or {}
    return options.get("collision_strategy") == "CANCEL_NEW"
