"""Hypothesis strategies for `deployments` in a prefect.yaml, and the flows that they name."""

from typing import Any

from hypothesis import strategies as st

POOL = "jobs"
FLOWS = '''
from datetime import date

from prefect import flow


@flow
def sales(day: date = date(2026, 1, 1), regions: list[str] = [], options: dict = {}):
    """Sales by region.

    Args:
        day: the day of the sales
    """


@flow(name="collector", version="3")
async def collect(source: str | None = None, *, depth: int = 1):
    """What the sources tell."""


class Reports:
    @flow(name="reports", description="Weekly reports")
    @staticmethod
    def weekly(week: int = 1):
        pass
'''
_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="{}"), max_size=12
)
_WORD = st.text("abcdefghij-_.XYZ 0123", min_size=1, max_size=12).filter(str.strip)
_ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORD, inner, max_size=2),
    max_leaves=4,
)
_PARAMETERS = {
    "flows.py:sales": st.fixed_dictionaries(
        {},
        optional={
            "day": st.dates().map(str),
            "regions": st.lists(_TEXT, max_size=2),
            "options": st.dictionaries(_WORD, _JSON, max_size=2),
        },
    ),
    "flows.py:collect": st.fixed_dictionaries(
        {}, optional={"source": st.none() | _TEXT, "depth": st.integers(-9, 9)}
    ),
    "flows.py:Reports.weekly": st.fixed_dictionaries({}, optional={"week": st.integers(1, 53)}),
}
_TIMES = st.one_of(
    st.fixed_dictionaries(
        {"cron": st.sampled_from(["0 6 * * *", "*/5 * 1 * MON", "@daily", "0 0 29 2 *"])},
        optional={"timezone": _ZONES, "day_or": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"interval": st.integers(30, 86399) | st.floats(30, 86399) | st.just("PT15M")},
        optional={
            "timezone": _ZONES,
            "anchor_date": st.datetimes().map(lambda moment: f"{moment.isoformat()}+05:30")
            | st.just("2026-01-01T00:00:00"),
        },
    ),
    # Whole days, at an hour that no clock change skips: other intervals are refused.
    st.fixed_dictionaries(
        {
            "interval": st.integers(1, 20).map(lambda days: days * 86400) | st.just("P7D"),
            "anchor_date": st.just("2026-01-01T12:00:00"),
        },
        optional={"timezone": _ZONES},
    ),
    st.fixed_dictionaries(
        {
            "rrule": st.sampled_from(
                [
                    "FREQ=DAILY;BYHOUR=6",
                    "RRULE:FREQ=MONTHLY;BYDAY=-1FR",
                    "DTSTART:20260101T000000\nRRULE:FREQ=MINUTELY;INTERVAL=15;BYHOUR=9",
                    "DTSTART:20200101T000000\nRRULE:FREQ=WEEKLY\nRDATE:20300101T000000",
                ]
            )
        },
        optional={"timezone": _ZONES},
    ),
)


@st.composite
def deployment_entries(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a valid item of `deployments`."""
    entrypoint = draw(st.sampled_from(sorted(_PARAMETERS)))
    parameters = _PARAMETERS[entrypoint]
    schedules = [
        {
            "slug": slug,
            **draw(_TIMES),
            **draw(
                st.fixed_dictionaries(
                    {}, optional={"active": st.booleans(), "parameters": parameters}
                )
            ),
        }
        for slug in draw(st.lists(_WORD, max_size=3, unique=True))
    ]
    limit = st.fixed_dictionaries(
        {
            "limit": st.integers(1, 100),
            "collision_strategy": st.sampled_from(["ENQUEUE", "CANCEL_NEW"]),
        },
        optional={"grace_period_seconds": st.integers(60, 86400)},
    )
    more = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "description": _TEXT,
                "version": _TEXT,
                "tags": st.lists(_TEXT, max_size=3),
                "parameters": parameters,
                "enforce_parameter_schema": st.booleans(),
                "paused": st.booleans(),
                "concurrency_limit": st.integers(1, 100) | limit,
                "pull": st.just([]),
            },
        )
    )
    pool = draw(
        st.fixed_dictionaries(
            {"name": st.just(POOL)},
            optional={
                "work_queue_name": st.sampled_from(["default", "urgent"]),
                "job_variables": st.fixed_dictionaries(
                    {},
                    optional={"image": _TEXT, "env": st.dictionaries(_WORD, _TEXT, max_size=2)},
                ),
            },
        )
    )
    name = draw(_WORD)
    return {
        "name": name,
        "entrypoint": entrypoint,
        "work_pool": pool,
        "schedules": schedules,
        **more,
    }
