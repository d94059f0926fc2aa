"""How the commands find, start and show flow runs, tested with a real Prefect server."""

import datetime as dt
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Crashed, Failed, Pending, Running

from prefect_platform_cli import reports
from prefect_platform_cli.deploy import first_run
from tests.support.servers import prefect_server

STARTED = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """Yield a client of a server that has the deployment of the daily ETL."""
    with (
        prefect_server(tmp_path_factory.mktemp("server")) as url,
        SyncPrefectClient(url) as client,
    ):
        flow, _, name = first_run.DEPLOYMENT.partition("/")
        client.create_deployment(
            client.create_flow_from_name(flow), name=name, enforce_parameter_schema=False
        )
        yield client


def set_states(prefect: SyncPrefectClient, run: FlowRun, *states: State) -> None:
    """Set a run to each of `states` in turn."""
    for state in states:
        prefect.set_flow_run_state(run.id, state, force=True)


@pytest.mark.parametrize(("january", "end"), [(1, Failed()), (2, Crashed())])
def test_a_failed_or_crashed_first_run_is_started_again(
    prefect: SyncPrefectClient, january: int, end: State
) -> None:
    day = dt.date(2013, 1, january)
    failed, new = first_run.find_or_start(prefect, day)
    assert new
    set_states(prefect, failed, Running(), end)

    again, new = first_run.find_or_start(prefect, day)

    assert new
    assert again.id != failed.id


@pytest.mark.parametrize(("january", "end"), [(3, Pending()), (4, Running()), (5, Completed())])
def test_a_first_run_that_is_active_or_completed_is_reused(
    prefect: SyncPrefectClient, january: int, end: State
) -> None:
    day = dt.date(2013, 1, january)
    first, _ = first_run.find_or_start(prefect, day)
    set_states(prefect, first, end)

    found, new = first_run.find_or_start(prefect, day)

    assert not new
    assert found.id == first.id


def create_started_run(prefect: SyncPrefectClient, name: str, seconds: int, lines: int) -> None:
    """Create a run that started `seconds` after STARTED and has `lines` lines of logs."""
    deployment = prefect.read_deployment_by_name(first_run.DEPLOYMENT)
    run = prefect.create_flow_run_from_deployment(deployment.id, name=name)
    at = STARTED + dt.timedelta(seconds=seconds)
    set_states(prefect, run, Running(timestamp=at))
    for start in range(0, lines, 200):  # 200 lines per request
        prefect.create_logs(
            [
                LogCreate(
                    name="prefect.flow_runs",
                    level=20,
                    message=f"line {number} of {name}",
                    timestamp=at + dt.timedelta(milliseconds=number),
                    flow_run_id=run.id,
                )
                for number in range(start, min(start + 200, lines))
            ]
        )


def printed_logs(
    capsys: pytest.CaptureFixture[str], prefect: SyncPrefectClient, name: str
) -> list[str]:
    """Print the logs of a run; return the lines without the heading and the times."""
    reports.print_logs(prefect, name)
    _, *lines = capsys.readouterr().out.splitlines()
    return [line.partition(" ")[2] for line in lines]


def test_all_log_lines_of_the_named_run_are_printed(
    prefect: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    create_started_run(prefect, "long", 0, lines=401)
    create_started_run(prefect, "newest", 60, lines=1)

    assert printed_logs(capsys, prefect, "long") == [f"line {n} of long" for n in range(401)]
    assert printed_logs(capsys, prefect, "newest") == ["line 0 of newest"]
