import json
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import Task

import etl_daily
from tests.support.servers import REPOSITORY, clean_environment


def run_script(
    tmp_path: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, REPOSITORY / "flows" / "etl_daily.py", *arguments],
        cwd=tmp_path,
        env=clean_environment(tmp_path, **variables),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wrong_date_is_refused_before_anything_starts(tmp_path: Path) -> None:
    refused = run_script(tmp_path, "--date", "2014-01-01")
    assert refused.returncode == 2
    assert refused.stdout == ""
    cause, next_step = refused.stderr.splitlines()
    assert cause == (
        "The date 2014-01-01 is outside the data, which covers 2013-01-01 to 2013-12-31."
    )
    assert next_step.startswith("Next: prefect deployment run etl-daily/daily --param date=")
    # A run that had started would have created Prefect's database.
    assert not list(tmp_path.rglob("*.db"))
    assert not (tmp_path / "etl-output").exists()


def test_an_incomplete_environment_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["etl_daily.py"])
    monkeypatch.setenv("RAW_BUCKET", "raw")
    monkeypatch.delenv("WAREHOUSE_PASSWORD", raising=False)
    assert etl_daily.main() == 2
    assert "WAREHOUSE_PASSWORD is missing" in capsys.readouterr().err


def test_the_entrypoint_loads_as_in_a_job_pod_without_heavy_imports(
    tmp_path: Path,
) -> None:
    """A job pod loads it by path from the parent of flows/, with an empty PYTHONPATH."""
    (tmp_path / "flows").symlink_to(REPOSITORY / "flows")
    code = """
import json, sys
from prefect.flows import load_flow_from_entrypoint
flow = load_flow_from_entrypoint("flows/etl_daily.py:etl_daily")
print(json.dumps([flow.name, flow.log_prints, sorted({m.split(".")[0] for m in sys.modules})]))
"""
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    name, log_prints, modules = json.loads(loaded.stdout)
    assert (name, log_prints) == ("etl-daily", True)
    assert not {"pandas", "numpy", "pyarrow", "boto3", "psycopg"} & set(modules)


@pytest.mark.parametrize(
    ("task", "delays"),
    [
        (etl_daily.extract, [10, 60, 300]),
        (etl_daily.transform, [2, 4]),
        (etl_daily.load, [5, 10, 20]),
    ],
    ids=["extract", "transform", "load"],
)
def test_each_task_waits_longer_before_each_retry(
    task: Task[..., object], delays: list[int]
) -> None:
    assert task.retries == len(delays)
    assert task.retry_delay_seconds == delays
