"""Compute the runs of a schedule with the server's own scheduler, and refuse bad schedules."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from itertools import pairwise
from zoneinfo import ZoneInfo

from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.server.schemas import schedules as scheduler

Written = CronSchedule | IntervalSchedule | RRuleSchedule
_DAY = dt.timedelta(days=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_AT_A_TIME = 500  # half of what the scheduler computes in one call
_LEAST = dt.timedelta(seconds=30)
_LOOKED_AT = 100
# A whole year, which has every clock change, and a time in each of its seasons.
_YEAR = (dt.datetime(2027, 1, 1, tzinfo=dt.UTC), dt.datetime(2028, 1, 1, tzinfo=dt.UTC))
_SEASONS = tuple(_YEAR[0] + days * _DAY for days in (0, 100, 200, 300))


class ScheduleError(ValueError):
    """A schedule that Prefect refuses, or that starts runs never, too often or at wrong times."""

    def __init__(self, key: str, cause: str, fix: str = "correct it") -> None:
        super().__init__(cause)
        self.key = key
        self.cause = cause
        self.fix = fix


def runs(schedule: Written, start: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
    """Yield the runs from `start` to `end`, sorted, in UTC; the scheduler may raise ValueError."""
    while found := _ask(schedule, _AT_A_TIME, start, end):
        yield from found
        if len(found) < _AT_A_TIME:
            return
        start = found[-1] + dt.timedelta(microseconds=1)


def refuse_none(key: str, schedule: Written) -> None:
    """Refuse a schedule that never starts a run; a rule whose last run is in the past is valid."""
    try:
        found = _first(schedule, 1)
    except ValueError as error:
        raise ScheduleError(key, f"{key}: no run can be scheduled: {error}") from error
    if not found:
        raise ScheduleError(key, f"{key}: the schedule never starts a run")


def refuse_too_often(key: str, schedule: Written) -> None:
    """Refuse runs less than 30 s apart, the interval in which the server looks for due runs."""
    for run, following in pairwise(_first(schedule, _LOOKED_AT)):
        if following - run < _LEAST:
            raise ScheduleError(
                key,
                f"{key}: two runs are {(following - run).total_seconds():g} s apart, but at least "
                f"{_LEAST.seconds} s are required",
                "schedule fewer runs that do more work each",
            )


def refuse_drift(schedule: IntervalSchedule) -> None:
    """Refuse an interval whose runs a clock change shifts permanently or makes unpredictable."""
    zone = ZoneInfo(schedule.timezone or "UTC")
    if schedule.interval < _DAY:
        return
    if schedule.interval % _DAY:
        asked = [_ask(schedule, _AT_A_TIME, start) for start in _SEASONS]
        for some, others in pairwise(asked):
            if _within(some, others) != _within(others, some):
                raise ScheduleError(
                    "interval",
                    f"interval: after a clock change in {zone}, the times of its runs depend on "
                    "when the server computes them, so a run may be lost or start twice",
                    "use whole days, less than a day, a cron schedule, or `timezone: UTC`",
                )
        return
    wanted = schedule.anchor_date.astimezone(zone).time()
    for run in runs(schedule, *_YEAR):
        if (got := run.astimezone(zone).time()) != wanted:
            raise ScheduleError(
                "interval",
                f"interval: a clock change in {zone} skips {wanted:%H:%M}, and all later runs "
                f"start at {got:%H:%M}",
                "use an anchor_date at a time that every day has, or a cron schedule",
            )


def _within(some: list[dt.datetime], others: list[dt.datetime]) -> list[dt.datetime]:
    """Return the items of `some` within the time that both lists cover."""
    first, last = max(some[0], others[0]), min(some[-1], others[-1])
    return [run for run in some if first <= run <= last]


def _first(schedule: Written, count: int) -> list[dt.datetime]:
    """Return the first runs from now on, or of a rule, which may have ended, from its start."""
    return _ask(schedule, count, _EPOCH if isinstance(schedule, RRuleSchedule) else None)


def _ask(
    schedule: Written, count: int, start: dt.datetime | None, end: dt.datetime | None = None
) -> list[dt.datetime]:
    server: scheduler.CronSchedule | scheduler.IntervalSchedule | scheduler.RRuleSchedule
    match schedule:
        case CronSchedule():
            server = scheduler.CronSchedule(**schedule.model_dump())
        case RRuleSchedule():
            server = scheduler.RRuleSchedule(**schedule.model_dump())
        case IntervalSchedule():
            server = scheduler.IntervalSchedule(**schedule.model_dump())
    # All three accept None, although one of them is not annotated so.
    found = asyncio.run(server.get_dates(count, start=start, end=end))  # type: ignore[arg-type]
    return [dt.datetime.fromtimestamp(run.timestamp(), dt.UTC) for run in found]
