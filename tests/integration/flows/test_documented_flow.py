"""The flow of docs/operations/flows.md works as the page says, as a file and as a deployment."""

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
from tests.support.documented import block
from tests.support.servers import REPOSITORY, clean_environment
from tests.unit.flows.delays_by_pandas import joined

_PAGE = "operations/flows.md"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with flows/ and prefect.yaml, both extended as the page describes."""
    shutil.copytree(REPOSITORY / "flows", tmp_path / "flows")
    shutil.copy(REPOSITORY / "prefect.toml", tmp_path)
    (tmp_path / "flows" / "worst_carrier.py").write_text(block(_PAGE, "## The flow", "python"))
    deployments = (REPOSITORY / "prefect.yaml").read_text()
    entry = block(_PAGE, "## The deployment", "yaml")
    (tmp_path / "prefect.yaml").write_text(f"{deployments.rstrip()}\n{entry}")
    return tmp_path


def test_the_documented_deployment_is_accepted_together_with_ours(checkout: Path) -> None:
    declared = prefect_yaml.declare(read(checkout / "prefect.yaml"), Offline())

    assert {each.key for each in declared} >= {
        Key(Kind.DEPLOYMENT, "etl-daily/daily"),
        Key(Kind.DEPLOYMENT, "worst-carrier/weekly"),
    }


def test_the_documented_flow_runs_without_a_platform(checkout: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "flows/worst_carrier.py"],
        cwd=checkout,
        env=clean_environment(checkout),
        capture_output=True,
        text=True,
        check=False,
    )
    day = dt.date(2013, 2, 8)
    flights = joined().query("month == @day.month and day == @day.day")
    cancelled = flights.dep_time.isna().groupby(flights.name).sum()
    worst = str(cancelled.idxmax())
    expected = f"{worst} cancelled {cancelled[worst]} of {(flights.name == worst).sum()} flights"

    assert completed.returncode == 0, completed.stderr
    assert f"{day}: {expected}" in completed.stderr
