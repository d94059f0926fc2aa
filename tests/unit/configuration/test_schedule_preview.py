"""The preview of coming runs marks the effects of clock changes and concurrency limits."""

import datetime as dt
from pathlib import Path

import pytest

from prefect_platform.configuration import commands
from prefect_platform.configuration.core.resource import Body, Declared, Key, Kind
from prefect_platform.configuration.core.source import Location
from prefect_platform.configuration.deployments.schedule_preview import Coming, coming
from prefect_platform.configuration.platform_file import Files
from prefect_platform.console import out


def deployment(name: str, *schedules: Body, **more: object) -> Declared:
    body = {
        "work_pool": "default",
        "work_queue": "default",
        "concurrency_limit": None,
        "concurrency_options": None,
        "schedules": [{"parameters": {}, **each} for each in schedules],
        **more,
    }
    return Declared(Key(Kind.DEPLOYMENT, f"flow/{name}"), body, AT)


def cron(cron: str, zone: str = "Europe/Berlin", slug: str = "s") -> Body:
    return {"slug": slug, "cron": cron, "timezone": zone, "day_or": True}


def shown(found: list[Coming]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f"{each.time:%d %H:%M %z}", each.schedule, each.marks) for each in found]


DAY = dt.timedelta(days=1)
AUTUMN_DAY = (dt.datetime(2027, 10, 30, tzinfo=dt.UTC), dt.datetime(2027, 10, 31, tzinfo=dt.UTC))
AT = Location(Path("prefect.yaml"), 1)
SPRING = (dt.datetime(2027, 3, 27, tzinfo=dt.UTC), dt.datetime(2027, 3, 29, tzinfo=dt.UTC))
AUTUMN = (
    dt.datetime(2027, 10, 31, 0, tzinfo=dt.UTC),
    dt.datetime(2027, 10, 31, 2, 30, tzinfo=dt.UTC),
)


def test_a_time_that_the_clock_change_skips_is_marked() -> None:
    found = shown(coming([deployment("a", cron("30 2 * * *"))], *SPRING))

    assert found == [
        ("27 02:30 +0100", "s", ()),
        ("28 03:30 +0200", "s", ("the clock change skips its time: it runs after the gap",)),
    ]


def test_a_run_that_prefect_drops_in_a_repeated_hour_is_marked() -> None:
    hourly = {
        "slug": "s",
        "interval": 3600.0,
        "anchor_date": "2020-01-01T00:00:00+00:00",
        "timezone": "Europe/Berlin",
    }
    found = shown(coming([deployment("a", hourly)], *AUTUMN))

    assert found == [
        ("31 02:00 +0200", "s", ()),
        (
            "31 03:00 +0100",
            "s",
            ("the run before it is lost: its hour occurs twice that day",),
        ),
    ]


def test_a_cron_in_a_repeated_hour_is_marked_as_running_once() -> None:
    found = shown(coming([deployment("a", cron("0 1-3 * * *"))], AUTUMN[0] - DAY / 24, AUTUMN[1]))

    assert found == [
        ("31 01:00 +0200", "s", ()),
        ("31 02:00 +0200", "s", ("its hour occurs twice that day: it runs the first time only",)),
        ("31 03:00 +0100", "s", ()),
    ]


@pytest.mark.parametrize(
    ("more", "limited", "mark"),
    [
        ({"concurrency_limit": 1}, [], "waits: the deployment flow/a allows 1 at a time"),
        (
            {
                "concurrency_limit": 1,
                "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
            },
            [],
            "is cancelled: the deployment flow/a allows 1 at a time",
        ),
        ({}, [(Kind.WORK_POOL, "default")], "waits: the work pool default allows 1 at a time"),
        (
            {"work_queue": "slow"},
            [(Kind.WORK_QUEUE, "default/slow")],
            "waits: the work queue default/slow allows 1 at a time",
        ),
        ({"concurrency_limit": 2}, [], None),
    ],
)
def test_a_run_that_exceeds_a_concurrency_limit_is_marked(
    more: Body, limited: list[tuple[Kind, str]], mark: str | None
) -> None:
    limits = [Declared(Key(*each), {"concurrency_limit": 1}, AT) for each in limited]
    two = deployment("a", cron("0 6 * * *", slug="x"), cron("0 6 * * *", slug="y"), **more)

    first, second = coming([two, *limits], SPRING[0], SPRING[0] + DAY)

    assert first.marks == ()
    assert second.marks == ((mark,) if mark else ())


def test_paused_deployments_and_schedules_have_no_runs() -> None:
    off = deployment("a", cron("0 6 * * *", slug="x"), **{"schedules.x.active": False})
    paused = deployment("b", cron("0 6 * * *"), paused=True)

    assert coming([off, paused], *SPRING) == []


def test_a_flow_name_with_spaces_stays_in_its_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "from prefect import flow\n@flow(name='two words')\ndef count(): ...\n"
    (tmp_path / "counting.py").write_text(module)
    (tmp_path / "platform.yaml").write_text("{}")
    (tmp_path / "prefect.yaml").write_text(
        "pull: []\n"
        "deployments:\n"
        "- name: daily\n"
        "  entrypoint: counting.py:count\n"
        "  work_pool: {name: default}\n"
        "  schedules: [{slug: at-six, cron: 0 6 * * *, timezone: UTC}]\n"
    )
    monkeypatch.setattr(out, "width", 200)

    commands.schedule(Files(tmp_path / "platform.yaml", tmp_path / "prefect.yaml"), *AUTUMN_DAY)

    assert "06:00:00 +0000 UTC   two words/daily   at-six" in capsys.readouterr().out
