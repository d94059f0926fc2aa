"""`make status` shows which runs wait, and for what, with a real Prefect server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Pending, Running, Scheduled

from prefect_platform import waiting_reasons
from prefect_platform_cli.doctor.waiting_runs import waiting_runs
from tests.support.servers import prefect_server

_REASON = "The Job flows/one waits for room in its quota: exceeded quota: jobs"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def prefect(api: str) -> Iterator[SyncPrefectClient]:
    """Yield a client of a server without runs."""
    with SyncPrefectClient(api) as client:
        for run in client.read_flow_runs():
            client.delete_flow_run(run.id)
        yield client


def test_a_run_cannot_pass_for_a_waiting_one_or_control_the_terminal(
    prefect: SyncPrefectClient,
) -> None:
    deployment = prefect.create_deployment(
        prefect.create_flow_from_name("etl"), name="nightly", enforce_parameter_schema=False
    )

    def run(name: str, state: State[None]) -> None:
        made = prefect.create_flow_run_from_deployment(deployment, name=name)
        prefect.set_flow_run_state(made.id, state, force=True)

    run("pretender", Running(name=waiting_reasons.NODE, message="all is well"))
    run("one\x1b[2K\ntwo", Pending(name=waiting_reasons.NODE, message="\x1b]0;title\x07\nthree"))

    (line,) = waiting_runs(prefect)
    assert line.startswith("one␛[2K two: WaitingForNode since ")
    assert line.endswith(" UTC: ␛]0;title␇ three")


def test_the_runs_that_were_due_first_are_shown_with_their_reason_and_the_others_are_counted(
    prefect: SyncPrefectClient,
) -> None:
    limited = prefect.create_deployment(
        prefect.create_flow_from_name("etl"),
        name="daily",
        concurrency_limit=1,
        enforce_parameter_schema=False,
    )
    free = prefect.create_deployment(
        prefect.create_flow_from_name("etl"), name="hourly", enforce_parameter_schema=False
    )

    def run(deployment: object, *states: State[None]) -> FlowRun:
        made = prefect.create_flow_run_from_deployment(deployment)  # type: ignore[arg-type]
        for state in states:
            prefect.set_flow_run_state(made.id, state)
        return made

    assert waiting_runs(prefect) == []
    quota: State[None] = Pending(
        name=waiting_reasons.QUOTA, message=f"{_REASON}\nwork pool  all is well"
    )
    past: State[None] = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(days=1), name="Late")
    late = run(free, past)
    run(free, Pending(), Running())
    run(free, Pending())
    held = run(limited, Pending(), quota)
    waiting = [run(limited, Pending()) for _ in range(10)]
    state = prefect.read_flow_run(held.id).state
    assert state is not None

    lines = waiting_runs(prefect)
    assert lines[:2] == [
        f"{late.name}: Late: its work pool is paused, has no free slot, or has no worker",
        f"{held.name}: WaitingForQuota since {state.timestamp:%Y-%m-%d %H:%M} UTC: {_REASON} work "
        "pool all is well",
    ]
    assert lines[-1] == "2 more"
    slots = {
        f"{each.name}: AwaitingConcurrencySlot: the concurrency limit of its deployment is reached"
        for each in waiting
    }
    assert set(lines[2:-1]) < slots
