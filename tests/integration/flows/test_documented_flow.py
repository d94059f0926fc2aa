"""What docs/flows/write.md, test.md and deploy.md show works as the pages say."""

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_platform.configuration.core.context import Offline
from prefect_platform.configuration.core.resource import Key, Kind
from prefect_platform.configuration.core.source import read
from prefect_platform.configuration.deployments import prefect_yaml
from prefect_platform_cli.lint.linter import declared_limits, lint
from tests.support.documented import block, blocks
from tests.support.http_service import serving
from tests.support.servers import REPOSITORY, clean_environment
from tests.unit.flows.delays_by_pandas import joined

_WRITE, _TEST, _DEPLOY = "flows/write.md", "flows/test.md", "flows/deploy.md"
_RATES = "## Call a service"
_LIMIT = "## Limit what runs at the same time"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with what the pages add to flows/, prefect.yaml and the tests."""
    shutil.copytree(REPOSITORY / "flows", tmp_path / "flows")
    for name in ("prefect.toml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    tests = tmp_path / "tests" / "unit" / "flows"
    tests.mkdir(parents=True)
    (tmp_path / "tests" / "support").symlink_to(REPOSITORY / "tests" / "support")
    first = block(_WRITE, "## The structure of a flow", "python")
    (tmp_path / "flows" / "worst_carrier.py").write_text(first)
    (tmp_path / "flows" / "rates.py").write_text(block(_WRITE, _RATES, "python"))
    (tests / "test_rates.py").write_text("\n\n".join(blocks(_TEST, "python")))
    deployments = (REPOSITORY / "prefect.yaml").read_text()
    entry = block(_DEPLOY, "## The deployment", "yaml")
    (tmp_path / "prefect.yaml").write_text(f"{deployments.rstrip()}\n{entry}")
    return tmp_path


def run(checkout: Path, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env=clean_environment(checkout, **more),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_documented_deployment_is_accepted_together_with_ours(checkout: Path) -> None:
    declared = prefect_yaml.declare(read(checkout / "prefect.yaml"), Offline())

    assert {each.key for each in declared} >= {
        Key(Kind.DEPLOYMENT, "etl-daily/daily"),
        Key(Kind.DEPLOYMENT, "worst-carrier/weekly"),
    }


def test_the_documented_flow_runs_without_a_platform(checkout: Path) -> None:
    completed = run(checkout, "flows/worst_carrier.py")
    day = dt.date(2013, 2, 8)
    flights = joined().query("month == @day.month and day == @day.day")
    cancelled = flights.dep_time.isna().groupby(flights.name).sum()
    worst = str(cancelled.idxmax())
    expected = f"{worst} cancelled {cancelled[worst]} of {(flights.name == worst).sum()} flights"

    assert completed.returncode == 0, completed.stderr
    assert f"{day}: {expected}" in completed.stderr
    assert f"{day}: {expected}" in block(_WRITE, "## Run it without a platform", "text")


def test_every_snippet_of_the_page_on_writing_is_linted_without_a_finding(checkout: Path) -> None:
    for number, snippet in enumerate(blocks(_WRITE, "python")):
        (checkout / "flows" / f"snippet_{number}.py").write_text(snippet)
    (checkout / "platform.yaml").write_text(block(_WRITE, _LIMIT, "yaml"))

    limits = declared_limits([checkout / "platform.yaml"])
    report = lint([checkout / "flows", checkout / "prefect.yaml"], limits)

    assert [*report.findings, *report.unreadable] == []


def test_a_block_and_a_limit_are_used_as_the_page_says(checkout: Path, api: str) -> None:
    platform = checkout / "platform.yaml"
    platform.write_text(block(_WRITE, _LIMIT, "yaml"))
    (limit,) = declared_limits([platform])
    program = f"""
from prefect import flow
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
{block(_WRITE, "## Secrets", "python")}
{block(_WRITE, _LIMIT, "python")}
with get_client(sync_client=True) as client:
    client.upsert_global_concurrency_limit_by_name({limit!r}, 4)
Secret(value="k3y").save("rates-key")
flow(ask, log_prints=True)()
assert rates_key() == "k3y"
"""

    ended = run(checkout, "-c", program, PREFECT_API_URL=api)

    assert ended.returncode == 0, ended.stderr
    assert "at most four at a time" in ended.stderr


def test_the_variable_of_the_secret_reaches_the_service(checkout: Path, api: str) -> None:
    variable = block(_WRITE, "## Secrets", "yaml")
    program = "import sys, rates; print(rates.highest_rate(sys.argv[1], '2013-02-08'))"
    with serving(lambda _method, _path: {"CHF": 1.09, "JPY": 0.01}) as service:
        ended = run(
            checkout,
            *("-c", program, service),
            PYTHONPATH="flows",
            PREFECT_API_URL=api,
            RATES_KEY="k3y",
        )

    assert "name: RATES_KEY" in variable
    assert ended.stdout == "CHF\n", ended.stderr
    assert "2013-02-08: CHF" in ended.stderr


def test_the_documented_tests_pass_and_have_the_style_of_the_project(checkout: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    styled = [
        subprocess.run(
            [ruff, *check, "--no-cache", "flows", "tests/unit"],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        for check in (["check", "--ignore=D"], ["format", "--check"])
    ]
    ended = run(
        checkout,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/flows/test_rates.py"),
    )

    assert [each.stdout for each in styled if each.returncode] == []
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "8 passed" in ended.stdout
