"""The commands of docs/flows/debug.md print what the page says.

The commands of kubectl run in tests/cluster: those for logs in test_run_logs and test_worker, and
the one for a killed container in test_hostile_flows. `make logs` runs in test_make_targets.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.documented import block
from tests.support.servers import REPOSITORY, api_client, clean_environment

_PAGE = "flows/debug.md"
_FLOWS = """
import datetime as dt
from prefect import flow, task
from prefect.cache_policies import INPUTS

@task(cache_policy=INPUTS, persist_result=True)
def count(day):
    return 42

@flow(persist_result=True)
def stock(day: dt.date, missing: bool = False) -> int:
    if missing:
        raise ValueError(f"there is no stock of {day}")
    return count(day)
"""
_STUCK = "import time\n\n\ndef wait() -> None:\n    time.sleep(600)\n\n\nwait()\n"


def documented(heading: str, **values: str) -> str:
    """Return the commands below a heading, with values for words in capitals."""
    command = block(_PAGE, heading, "sh")
    for word, value in values.items():
        command = command.replace(word, value)
    return command


class Checkout:
    """A folder with flows that are deployed to a real Prefect server, and executed as in a pod."""

    def __init__(self, folder: Path, api: str) -> None:
        self.folder = folder
        self.api = api
        # Wide enough that no message is broken.
        self.environment = clean_environment(folder, PREFECT_API_URL=api, COLUMNS="300") | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        }
        shutil.copy(REPOSITORY / "prefect.toml", folder)
        (folder / "flows").mkdir()
        (folder / "flows" / "stock.py").write_text(_FLOWS)
        (folder / "flows" / "show_result.py").write_text(
            block(_PAGE, "## See what a run returned", "python")
        )
        self.stock = self.deploy("stock")

    def deploy(self, name: str) -> str:
        flow = self.post("flows/", {"name": name.replace("_", "-")})["id"]
        deployment = {
            "name": "on-demand",
            "flow_id": flow,
            "path": str(self.folder),
            "entrypoint": f"flows/{name}.py:{name}",
            # The command line refuses parameters that the deployment does not declare.
            "parameter_openapi_schema": {
                "type": "object",
                "properties": {each: {} for each in ("day", "missing", "state")},
            },
            "enforce_parameter_schema": False,
        }
        return str(self.post("deployments/", deployment)["id"])

    def post(self, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401
        with api_client(self.api) as client:
            return client.post(path, json=body).json()

    def read(self, run: str) -> Any:  # noqa: ANN401
        with api_client(self.api) as client:
            return client.get(f"flow_runs/{run}").json()

    def newest(self, flow: str) -> Any:  # noqa: ANN401
        body = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
        return self.post("flow_runs/filter", body)[0]

    def execute(self, run: str, **variables: str) -> str:
        """Execute a run and return the log of its process."""
        return subprocess.run(
            [sys.executable, "-m", "prefect.engine"],
            cwd=self.folder,
            env=self.environment | {"PREFECT__FLOW_RUN_ID": run} | variables,
            capture_output=True,
            text=True,
            check=False,
        ).stderr

    def start(self, *, missing: bool = False) -> str:
        body = {"parameters": {"day": "2013-02-08", "missing": missing}}
        return str(self.post(f"deployments/{self.stock}/create_flow_run", body)["id"])

    def shell(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def checkout(api: str, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"), api)


@pytest.fixture(scope="module")
def failed(checkout: Checkout) -> str:
    """Return the ID of a run that failed."""
    run = checkout.start(missing=True)
    checkout.execute(run)
    return run


def test_the_state_and_the_log_name_the_cause(checkout: Checkout, failed: str) -> None:
    found = checkout.shell(documented("## Find the state", RUN=failed))
    log = checkout.shell(f"prefect flow-run logs {failed}")

    assert found.returncode == 0, found.stderr
    assert "stock" in found.stdout
    assert "there is no stock of" in found.stdout
    assert "ValueError: there is no stock of 2013-02-08" in log.stdout


def test_a_failed_run_fails_in_the_same_way_here(checkout: Checkout, failed: str) -> None:
    command = documented("## The run failed", RUN=failed, NAME="stock")

    ended = checkout.shell(
        f"export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=300; {command}"
    )

    assert "ValueError: there is no stock of 2013-02-08" in ended.stderr
    assert checkout.newest("stock")["id"] == failed


def test_a_retry_keeps_the_run(checkout: Checkout) -> None:
    run = checkout.start(missing=True)
    checkout.execute(run)

    ended = checkout.shell(f"prefect flow-run retry {run}")

    assert ended.returncode == 0, ended.stderr
    assert checkout.read(run)["state"]["name"] == "Scheduled"


def test_a_run_that_hangs_shows_where(checkout: Checkout) -> None:
    (checkout.folder / "flows" / "stuck.py").write_text(_STUCK)

    ended = checkout.shell(documented("## The run hangs", NAME="stuck").replace(" 60 ", " 10 "))

    assert 'flows/stuck.py", line 5 in wait' in ended.stderr


def test_a_cached_result_is_shown_and_computed_again_on_request(checkout: Checkout) -> None:
    first, second = checkout.start(), checkout.start()
    assert "Cached" not in checkout.execute(first)
    assert "Finished in state Cached(type=COMPLETED)" in checkout.execute(second)

    command = documented("## A cached result", **{"FLOW/DEPLOYMENT": "stock/on-demand"})
    started = checkout.shell(f"{command.rstrip()} --param day=2013-02-08")
    assert started.returncode == 0, started.stderr
    run = checkout.newest("stock")
    log = checkout.execute(run["id"], **run["job_variables"]["env"])

    assert "Finished in state Completed()" in log
    assert "Cached" not in log

    checkout.deploy("show_result")
    heading = "## See what a run returned"
    shown = checkout.shell(documented(heading, RUN=first).replace(" --watch", ""))
    assert shown.returncode == 0, shown.stderr
    assert " 42\n" in checkout.execute(checkout.newest("show-result")["id"])
