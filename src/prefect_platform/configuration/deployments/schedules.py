"""Convert schedules of deployments between the file, the body of a resource, and the API."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from prefect._internal.schemas.validators import normalize_rrule_string
from prefect.cli.deploy._models import RawScheduleConfig
from prefect.cli.deploy._schedules import _schedule_config_to_deployment_schedule as _parse
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import IntervalSchedule, NoSchedule
from pydantic import ValidationError

from prefect_platform.configuration.deployments.schedule_runs import (
    ScheduleError,
    refuse_drift,
    refuse_none,
    refuse_too_often,
)

Schedule = dict[str, Any]
_FIRST_DAY = dt.datetime(2020, 1, 1)  # Prefect's start for rules, without its time zone
_FIELDS = ("cron", "day_or", "interval", "anchor_date", "rrule", "timezone")


def declared(config: RawScheduleConfig) -> tuple[Schedule, bool | None]:
    """Return the body of a schedule, and whether it is active: None when the file does not say.

    Raises ScheduleError.
    """
    key = next(name for name in ("cron", "interval", "rrule") if getattr(config, name) is not None)
    if config.replaces is not None:
        raise ScheduleError(
            "replaces",
            "the file replaces all schedules, including those with another slug",
            "remove it",
        )
    if not config.slug:
        raise ScheduleError(
            key,
            "the schedule has no slug, without which it could not be told apart from one that was "
            "added by hand, and would not stay paused",
            "add `slug: NAME`",
        )
    if config.anchor_date is not None and config.interval is None:
        raise ScheduleError("anchor_date", "anchor_date requires interval", "remove it")
    if config.day_or is not None and config.cron is None:
        raise ScheduleError("day_or", "day_or requires cron", "remove it")
    try:
        parsed = DeploymentScheduleCreate(**_parse(config.model_dump(mode="json")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = next((step for step in reversed(first["loc"]) if step in _FIELDS), None)
        cause = first["msg"].removeprefix("Value error, ")
        if at is None and "timezone" in cause:
            at = "timezone"
        raise ScheduleError(str(at or key), f"{at or key}: {cause}") from error
    except ValueError as error:
        at = "anchor_date" if config.anchor_date is not None else key
        raise ScheduleError(at, f"{at}: {error}") from error
    schedule = parsed.schedule
    assert not isinstance(schedule, NoSchedule)  # noqa: S101 - `key` is one of three others
    body = _body(parsed.model_dump(mode="json"))
    if isinstance(schedule, IntervalSchedule) and config.anchor_date is None:
        # Prefect would count from the time of the deploy, which differs between servers.
        zone = ZoneInfo(body["timezone"])
        anchor = _FIRST_DAY.replace(tzinfo=zone)
        schedule = schedule.model_copy(update={"anchor_date": anchor})
        body["anchor_date"] = _in_utc(anchor.isoformat())
    if config.rrule is not None:
        _refuse_moving_start(config)
    refuse_none(key, schedule)
    refuse_too_often(key, schedule)
    if isinstance(schedule, IntervalSchedule):
        refuse_drift(schedule)
    return body, parsed.active if config.active is not None else None


def found(schedule: Mapping[str, Any]) -> tuple[Schedule, bool]:
    """Return the body of a schedule on the server, and whether it is active."""
    return _body(schedule), schedule["active"]


def create(body: Schedule, *, active: bool) -> dict[str, Any]:
    """Return the schedule in the form in which the API creates it."""
    return {
        "slug": body["slug"],
        "parameters": body["parameters"],
        "active": active,
        "schedule": {name: body[name] for name in _FIELDS if name in body},
    }


def active_key(slug: str | None) -> str:
    """Return the key in a deployment's body that says whether a schedule is active.

    It is separate from the schedule, because a plan compares it only if the file sets it.
    """
    return f"schedules.{slug}.active"


def in_order(bodies: Iterable[Schedule]) -> list[Schedule]:
    """Return the schedules sorted as in a body, because the server does not order them."""
    return sorted(bodies, key=lambda body: (body["slug"] is not None, body["slug"], str(body)))


def _body(schedule: Mapping[str, Any]) -> Schedule:
    body = {
        "slug": schedule["slug"],
        **schedule["schedule"],
        "parameters": schedule["parameters"],
    }
    if "interval" in body:
        body["interval"] = float(body["interval"])
        body["anchor_date"] = _in_utc(body["anchor_date"])
    return body


def _in_utc(moment: str) -> str:
    return dt.datetime.fromisoformat(moment).astimezone(dt.UTC).isoformat()


def _refuse_moving_start(config: RawScheduleConfig) -> None:
    """Refuse a rule whose start Prefect would set to about the time of the deploy."""
    starts = {
        normalize_rrule_string(str(config.rrule), now=now, timezone=config.timezone)
        for now in (dt.datetime(2021, 1, 1, tzinfo=dt.UTC), dt.datetime(2022, 7, 1, tzinfo=dt.UTC))
    }
    if len(starts) > 1:
        raise ScheduleError(
            "rrule",
            "a rule by the minute or second without DTSTART starts when it is deployed, so every "
            "deploy would change it",
            "use interval, or put the start in front: DTSTART:20260101T000000",
        )
