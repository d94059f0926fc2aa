"""What ends the runs that a run has started by run_deployment, as the page on deployments says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Crashed, Pending, Running

from prefect_platform.polling import wait_until
from tests.support.documented import block
from tests.support.servers import clean_environment, prefect_server

_KILLED_PARENT = """
import os, signal, sys
from prefect import flow
from prefect.deployments import run_deployment
from prefect.runtime import flow_run

@flow
def parent():
    for _ in range(2):
        run_deployment(sys.argv[1], timeout=0)
    print(flow_run.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

parent()
"""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    loop = {"PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "1"}
    with (
        prefect_server(tmp_path_factory.mktemp("server"), **loop) as url,
        SyncPrefectClient(url) as client,
    ):
        yield client


@pytest.fixture
def parent(prefect: SyncPrefectClient, tmp_path: Path) -> UUID:
    """The run of a process that was killed after it had started two others; one of them runs."""
    name = uuid4().hex
    prefect.create_deployment(
        prefect.create_flow_from_name("child"), name=name, enforce_parameter_schema=False
    )
    program = tmp_path / "parent.py"
    program.write_text(_KILLED_PARENT)
    ended = subprocess.run(
        [sys.executable, program, f"child/{name}"],
        env=clean_environment(tmp_path, PREFECT_API_URL=str(prefect.api_url)),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    parent = UUID(ended.stdout.strip())
    running = children(prefect, parent)[0].id
    prefect.set_flow_run_state(running, Pending())
    prefect.set_flow_run_state(running, Running())
    return parent


def children(prefect: SyncPrefectClient, parent: UUID) -> list[FlowRun]:
    of_parent = FlowRunFilterParentFlowRunId(any_=[parent])
    return sorted(
        prefect.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=of_parent)),
        key=lambda run: run.id,
    )


def states(prefect: SyncPrefectClient, parent: UUID) -> list[str | None]:
    return [run.state_name for run in children(prefect, parent)]


def test_the_server_cancels_the_children_of_a_cancelled_run(
    prefect: SyncPrefectClient, parent: UUID
) -> None:
    prefect.set_flow_run_state(parent, Cancelled())

    assert wait_until(lambda: states(prefect, parent) == ["Cancelling", "Cancelled"], 120), states(
        prefect, parent
    )


def test_the_documented_command_cancels_the_children_of_a_crashed_run(
    prefect: SyncPrefectClient, parent: UUID
) -> None:
    prefect.set_flow_run_state(parent, Crashed())
    assert states(prefect, parent) == ["Running", "Scheduled"]
    heading = "## End the runs that a run has started"
    command = block("flows/deploy.md", heading, "sh").replace('RUN"', f'{parent}"')

    subprocess.run(
        ["bash", "-c", command],
        env={
            **os.environ,
            "PREFECT_API_URL": str(prefect.api_url).rstrip("/"),
            "PREFECT_API_AUTH_STRING": "any:any",
        },
        check=True,
    )

    assert states(prefect, parent) == ["Cancelling", "Cancelled"]
