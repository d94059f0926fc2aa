"""A run with the token of its pod does everything that a flow needs, while its token is renewed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.run_identity.conftest import EVERYTHING, Objects, World, grant
from tests.support import servers

_VALID_SECONDS = 15  # much longer than a request takes on a busy machine
_RENEWED_SECONDS = 2.0
_WITHIN = 300


@pytest.fixture(scope="module")
def deployment(world: World, ids: Objects) -> str:
    """Create the deployment of the flow in the pool `other`, beside the objects that it uses."""
    assert ids.other_deployment
    return _deploy(world, "every-right", "every_right.py:every_right")


def test_a_run_completes_while_its_token_is_renewed(
    world: World, ids: Objects, deployment: str, tmp_path: Path
) -> None:
    grant(world, ids, **EVERYTHING)
    run = world.api("POST", f"/deployments/{deployment}/create_flow_run", {})["id"]
    output = _execute(world, run, tmp_path, seconds=_VALID_SECONDS + 5)

    found = world.api("GET", f"/flow_runs/{run}")
    assert found["state_type"] == "COMPLETED", output
    tasks = world.api("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    assert {each["state_type"] for each in tasks} == {"COMPLETED", "SCHEDULED"}, output
    logged = world.api("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    assert f"ended {found['name']} of every-right" in [each["message"] for each in logged]
    assert "Done by hand" in {each["state_name"] for each in tasks}
    log = world.log.read_text()
    assert f"of flow run {run} with" not in log
    assert f"Dropped an event of flow run {run}" not in log


def test_a_run_that_uses_what_is_not_granted_fails_with_the_reason(
    world: World, ids: Objects, deployment: str, tmp_path: Path
) -> None:
    grant(world, ids, concurrency_limits=["theirs"])
    run = world.api("POST", f"/deployments/{deployment}/create_flow_run", {})["id"]
    _execute(world, run, tmp_path, seconds=0)

    state = world.api("GET", f"/flow_runs/{run}")["state"]
    assert state["type"] == "FAILED"
    assert "theirs is not granted to the runs of this work pool" in state["message"]


def test_a_hook_of_a_crashed_run_uses_the_api(world: World, ids: Objects, tmp_path: Path) -> None:
    assert ids.other_deployment
    deployment = _deploy(world, "crashing", "crashing.py:crashing")
    run = world.api("POST", f"/deployments/{deployment}/create_flow_run", {})["id"]
    output = _execute(world, run, tmp_path, seconds=0)

    assert world.api("GET", f"/flow_runs/{run}")["state_type"] == "CRASHED", output
    logged = world.api("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    assert "the hook has read Crashed" in [each["message"] for each in logged], output


def _deploy(world: World, name: str, entrypoint: str) -> str:
    """Create the deployment of a flow of this folder in the pool `other`, and return its id."""
    made: str = world.api(
        "POST",
        "/deployments/",
        {
            "name": "other",
            "flow_id": world.api("POST", "/flows/", {"name": name})["id"],
            "work_pool_name": "other",
            "entrypoint": entrypoint,
            "path": str(Path(__file__).parent),
            "enforce_parameter_schema": False,
            "concurrency_limit": 1,
        },
    )["id"]
    return made


def _execute(world: World, run: str, directory: Path, *, seconds: int) -> str:
    """Execute a run as its pod does, and renew its token like a kubelet; return the output."""
    token = directory / "token"
    of_pod = world.token(run, namespace="others")

    def renew() -> None:
        renewed = directory / "renewed"
        renewed.write_text(world.resigned(of_pod, exp=int(time.time()) + _VALID_SECONDS))
        renewed.replace(token)

    renew()
    environment = servers.clean_environment(
        directory,
        PREFECT_API_URL=world.url,
        PREFECT_PLUGINS_ENABLED="true",
        PREFECT_PLUGINS_ALLOW="first-connection,pod-token",
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30",
        POD_TOKEN_FILE=str(token),
        SECONDS=str(seconds),
    )
    with (directory / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect_platform.flow_run", run],
            cwd=Path(__file__).parent,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + _WITHIN
        while True:
            try:
                process.wait(_RENEWED_SECONDS)
                return (directory / "output").read_text()
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, (directory / "output").read_text()
                renew()
    finally:
        process.kill()
        process.wait()
