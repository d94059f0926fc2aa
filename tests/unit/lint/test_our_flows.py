"""Our own flows are clean, and every protection that is taken from them is missed."""

import shutil
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.lint import command
from prefect_platform_cli.lint.linter import declared_limits, lint

_ETL = "flows/etl_daily.py"
_LIMITS = declared_limits(REPOSITORY.glob("k8s/environments/*/platform.yaml"))
MUTATIONS = {
    "the retries of the extract": (
        *(_ETL, "    retries=3,\n    retry_delay_seconds=[10, 60, 300],\n", ""),
        {"PF003"},
    ),
    "the retries of the load": (
        _ETL,
        "    retries=3,\n    retry_delay_seconds=exp",
        "    retry_delay_seconds=exp",
        {"PF003"},
    ),
    "the delays of the extract": (_ETL, "    retry_delay_seconds=[10, 60, 300],\n", "", {"PF004"}),
    "the growth of the delays": (_ETL, "[10, 60, 300]", "[60, 60, 60]", {"PF004"}),
    "the backoff of the load": (_ETL, "exponential_backoff(5)", "5", {"PF004"}),
    "the task of the extract": (
        _ETL,
        "extract(day, target.source)",
        "extract.fn(day, target.source)",
        {"PF002"},
    ),
    "the task of the load": (_ETL, "load(day, rows, target)", "target.store(day, rows)", {"PF002"}),
    "the flow": (_ETL, '@flow(name="etl-daily", log_prints=True)\n', "", {"PF001", "PF503"}),
    "log_prints": (_ETL, ", log_prints=True", "", {"PF006"}),
    "the type of the parameter": (
        _ETL,
        "date: dt.date | str | None = None",
        "date=None",
        {"PF521"},
    ),
    "the expiration of the cache": (
        _ETL,
        "    cache_expiration=dt.timedelta(hours=1),\n",
        "",
        {"PF202"},
    ),
    "the stored result": (_ETL, "persist_result=True", "persist_result=False", {"PF201"}),
    "the guard of the script": (
        _ETL,
        '\nif __name__ == "__main__":\n    sys.exit(main())',
        "\netl_daily()",
        {"PF104"},
    ),
    "the timeout of the warehouse": (
        "flows/lib/warehouse.py",
        "            connect_timeout=10,\n",
        "",
        {"PF008"},
    ),
    "the password's source": (
        *("flows/lib/warehouse.py", "password=server.password.get_secret_value()"),
        *('password="w4rehouse!"', {"PF005"}),
    ),
    "the tags": ("prefect.yaml", "    tags: [etl, daily]\n", "", {"PF501"}),
    "the name of the flow": (
        "prefect.yaml",
        "etl_daily.py:etl_daily",
        "etl_daily.py:daily_etl",
        {"PF503"},
    ),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with flows/ and prefect.yaml."""
    shutil.copytree(REPOSITORY / "flows", tmp_path / "flows")
    shutil.copy(REPOSITORY / "prefect.yaml", tmp_path)
    return tmp_path


def test_our_flows_are_clean() -> None:
    report = lint([REPOSITORY / "flows", REPOSITORY / "prefect.yaml"], _LIMITS)

    assert [*report.findings, *report.unreadable] == []


def test_errors_are_refused_before_anything_is_deployed(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.refuse_errors([checkout / "flows"])
    file, before, after, _ = MUTATIONS["the growth of the delays"]
    path = checkout / file
    path.write_text(path.read_text().replace(before, after))

    with pytest.raises(PlatformError, match=r"\d+ files: 1 error"):
        command.refuse_errors([checkout / "flows"])

    assert f"{path}:35:2 PF004 the task extract repeats" in capsys.readouterr().out


@pytest.mark.parametrize("protection", MUTATIONS)
def test_a_protection_that_is_taken_away_is_missed(protection: str, checkout: Path) -> None:
    file, before, after, expected = MUTATIONS[protection]
    path = checkout / file
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))

    report = lint([checkout / "flows", checkout / "prefect.yaml"], _LIMITS)

    assert {each.rule.id for each in report.findings} == expected


def test_a_polling_task_without_its_timeout_is_found(checkout: Path) -> None:
    """The flow that waits has a timeout; without it, the wait in another module is found."""
    text = (
        "import time\n\nfrom prefect import task\n\n\n@task(timeout_seconds=600)\n"
        "def wait(job) -> None:\n    while not job.done():\n        time.sleep(5)\n"
    )
    path = checkout / "flows" / "wait.py"
    path.write_text(text)
    assert lint([checkout / "flows"], _LIMITS).findings == []

    path.write_text(text.replace("timeout_seconds=600", ""))

    assert [each.rule.id for each in lint([checkout / "flows"], _LIMITS).findings] == ["PF007"]
