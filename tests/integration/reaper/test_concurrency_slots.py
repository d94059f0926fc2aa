"""Slots of concurrency limits are freed when their holder has ended, and only then."""

import asyncio
import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.states import Pending, Running

from prefect_platform.polling import wait_until
from prefect_platform.reaper.concurrency_slots import ConcurrencySlots
from prefect_platform.reaper.pass_report import PassReport
from tests.integration.reaper.reaped_pool import ReapedPool
from tests.support.slot_holder import LIMIT, TAG, slot_holder


@pytest.fixture(autouse=True)
def _delete_limits(reaped: ReapedPool) -> Iterator[None]:
    """Delete the limits of the test, because a pass covers all limits of the server."""
    yield
    client = reaped.client
    for found in client.read_global_concurrency_limits(limit=200, offset=0):
        client.delete_global_concurrency_limit_by_name(found.name)


def make_pass(reaped: ReapedPool, *, grace: float = 0, dry_run: bool = False) -> PassReport:
    """Make a pass over all concurrency limits of the server, and return its report."""
    report = PassReport("concurrency limits", dry_run)

    async def go() -> None:
        async with PrefectClient(reaped.api_url) as client:
            await ConcurrencySlots(client, timedelta(seconds=grace), report).run()

    asyncio.run(go())
    return report


def reasons(report: PassReport, name: str) -> list[str]:
    return [each["reason"] for each in report.entries if each["concurrency_limit"] == name]


def limit(reaped: ReapedPool, name: str = "") -> str:
    """Create a limit with two slots, by default by a new tag; return its name."""
    name = name or f"tag:{uuid.uuid4().hex[:8]}"
    created = GlobalConcurrencyLimitCreate(name=name, limit=2)
    reaped.client.create_global_concurrency_limit(created)
    return name


def taken(reaped: ReapedPool, name: str) -> int:
    return reaped.client.read_global_concurrency_limit_by_name(name).active_slots


def task_run(reaped: ReapedPool, run: uuid.UUID | None, state: Mapping[str, object]) -> uuid.UUID:
    body = {
        "flow_run_id": run and str(run),
        "task_key": "hold",
        "dynamic_key": uuid.uuid4().hex,
        "state": dict(state),
    }
    created = reaped.client.request("POST", "/task_runs/", json=body).json()
    return uuid.UUID(created["id"])


def hold(reaped: ReapedPool, name: str, task_run_id: uuid.UUID) -> None:
    """Take a slot as clients without leases do; such a slot never expires."""
    tags = [name.removeprefix("tag:")]
    reaped.client.increment_v1_concurrency_slots(names=tags, task_run_id=task_run_id)


RUNNING = {"type": "RUNNING"}


@pytest.mark.parametrize("state", ["Completed", "Failed", "Crashed", "Cancelled"])
def test_the_slot_of_a_run_that_has_ended_is_freed_and_others_are_kept(
    reaped: ReapedPool, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = limit(reaped)
    ended, running = reaped.run(state), reaped.run()
    for run in (ended, running):
        hold(reaped, name, task_run(reaped, run, RUNNING))

    assert reasons(make_pass(reaped, dry_run=True), name) == ["slot_of_ended_run"]
    assert taken(reaped, name) == 2
    capsys.readouterr()
    assert reasons(make_pass(reaped), name) == ["slot_of_ended_run"]
    assert taken(reaped, name) == 1

    called = reaped.client.read_flow_run(ended).name
    (line,) = [line for line in capsys.readouterr().err.splitlines() if name in line]
    assert f"freed a slot of the concurrency limit {name}: the run {called} ({ended})" in line
    assert f"is {state} since " in line
    assert reasons(make_pass(reaped), name) == []
    assert taken(reaped, name) == 1


def test_a_run_that_has_just_ended_keeps_its_slot_for_the_grace_period(reaped: ReapedPool) -> None:
    name = limit(reaped)
    hold(reaped, name, task_run(reaped, reaped.run("Crashed"), RUNNING))

    assert reasons(make_pass(reaped, grace=3600), name) == []
    assert taken(reaped, name) == 1


def test_a_delayed_task_that_outlives_its_run_keeps_its_slot(reaped: ReapedPool) -> None:
    name = limit(reaped)
    deferred = {"type": "SCHEDULED", "state_details": {"deferred": True}}
    holder = task_run(reaped, reaped.run("Completed"), deferred)
    reaped.client.set_task_run_state(holder, Running(), force=True)
    hold(reaped, name, holder)

    assert reasons(make_pass(reaped), name) == []
    assert taken(reaped, name) == 1


def test_a_slot_of_a_task_run_that_is_not_recorded_is_kept(reaped: ReapedPool) -> None:
    name = limit(reaped)
    hold(reaped, name, uuid.uuid4())

    assert reasons(make_pass(reaped), name) == []
    assert taken(reaped, name) == 1


def test_slots_without_a_holder_are_reported_and_left_alone(
    reaped: ReapedPool, capsys: pytest.CaptureFixture[str]
) -> None:
    name = limit(reaped)
    for each in (name, limit(reaped, "deployment:of-a-person")):
        reaped.client.increment_concurrency_slots([each], slots=2, mode="concurrency")

    assert reasons(make_pass(reaped), name) == ["slot_without_holder"]
    assert taken(reaped, name) == 2
    assert f"2 slots of the concurrency limit {name} are taken, but" in capsys.readouterr().err


def test_the_slots_of_a_deployment_have_a_holder_while_its_runs_live(reaped: ReapedPool) -> None:
    deployment = reaped.client.create_deployment(
        reaped.client.create_flow_from_name("limited"),
        name=uuid.uuid4().hex,
        concurrency_limit=2,
        enforce_parameter_schema=False,
    )
    name = f"deployment:{deployment}"
    run = reaped.client.create_flow_run_from_deployment(deployment)
    reaped.client.set_flow_run_state(run.id, Pending())
    assert taken(reaped, name) == 1

    assert reasons(make_pass(reaped), name) == []
    reaped.client.increment_concurrency_slots([name], slots=1, mode="concurrency")
    assert reasons(make_pass(reaped), name) == ["slot_without_holder"]
    assert taken(reaped, name) == 2


def test_a_process_that_computes_keeps_its_slots(reaped: ReapedPool, tmp_path: Path) -> None:
    names = [limit(reaped, LIMIT), limit(reaped, f"tag:{TAG}")]
    with slot_holder(reaped.api_url, tmp_path) as (process, run):
        assert wait_until(lambda: reaped.client.read_flow_run(run).state_name == "Running", 60)

        report = make_pass(reaped)

        assert [reasons(report, name) for name in names] == [[], []]
        assert [taken(reaped, name) for name in names] == [1, 1]
        assert process.communicate("")[0] == ""
    assert [taken(reaped, name) for name in names] == [0, 0]
