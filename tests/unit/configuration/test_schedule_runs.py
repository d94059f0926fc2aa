"""Runs of schedules across a year's clock changes, as the server's own scheduler computes them."""

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from prefect_platform.configuration.deployments.schedule_runs import (
    ScheduleError,
    refuse_drift,
    runs,
)

_YEAR = (dt.datetime(2027, 1, 1, tzinfo=dt.UTC), dt.datetime(2028, 1, 1, tzinfo=dt.UTC))
_ZONES = ("America/New_York", "Europe/Berlin", "America/Santiago", "Australia/Sydney")


def interval(zone: str, hours: float, *, hour: int = 12) -> IntervalSchedule:
    anchor = dt.datetime(2020, 1, 1, hour, tzinfo=ZoneInfo(zone))
    return IntervalSchedule(interval=dt.timedelta(hours=hours), anchor_date=anchor, timezone=zone)


@pytest.mark.parametrize("zone", _ZONES)
@pytest.mark.parametrize("days", [1, 7])
def test_an_interval_of_whole_days_keeps_its_hour_across_clock_changes(
    zone: str, days: int
) -> None:
    found = [run.astimezone(ZoneInfo(zone)) for run in runs(interval(zone, 24 * days), *_YEAR)]

    assert {run.time() for run in found} == {dt.time(12)}
    assert {(later.date() - run.date()).days for run, later in pairwise(found)} == {days}


@pytest.mark.parametrize("zone", _ZONES)
def test_a_daily_cron_runs_once_even_on_days_with_a_clock_change(zone: str) -> None:
    """A run at a skipped time starts after the gap, and one at a repeated time starts once."""
    found = [
        run.astimezone(ZoneInfo(zone)).date()
        for run in runs(CronSchedule(cron="30 2 * * *", timezone=zone), *_YEAR)
    ]

    assert len(found) == len(set(found)) == 365


@pytest.mark.parametrize("zone", _ZONES)
def test_an_interval_under_a_day_is_measured_in_elapsed_time(zone: str) -> None:
    found = list(runs(interval(zone, 6), *_YEAR))

    assert {later - run for run, later in pairwise(found)} == {dt.timedelta(hours=6)}


@pytest.mark.parametrize("hours", [25, 36])
def test_an_interval_of_days_and_hours_is_refused_where_clocks_change(hours: int) -> None:
    with pytest.raises(ScheduleError, match="depend on when the server computes them"):
        refuse_drift(interval("Europe/Berlin", hours))

    refuse_drift(interval("UTC", hours))


@pytest.mark.parametrize("zone", ["America/Santiago", "Africa/Cairo"])
def test_a_daily_interval_at_an_hour_that_a_clock_change_skips_is_refused(zone: str) -> None:
    with pytest.raises(ScheduleError, match="skips 00:00, and all later runs start at 01:00"):
        refuse_drift(interval(zone, 24, hour=0))

    refuse_drift(interval(zone, 24))
