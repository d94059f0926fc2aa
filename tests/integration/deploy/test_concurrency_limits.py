"""The command `limits` shows slots, holders and waiting runs, with a real Prefect server."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed, Pending, Running, Scheduled

from prefect_platform.console import out
from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_until
from prefect_platform_cli import reports
from prefect_platform_cli.doctor.concurrency_limits import ConcurrencyLimits, Limit
from tests.support.servers import prefect_server
from tests.support.slot_holder import LIMIT, TAG, slot_holder


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def prefect(api_url: str) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(api_url) as client:
        yield client


def limit(prefect: SyncPrefectClient, kind: str, name: str) -> Limit:
    (found,) = [
        each for each in ConcurrencyLimits(prefect).read() if (each.kind, each.name) == (kind, name)
    ]
    return found


def test_the_run_in_a_limited_deployment_and_those_that_wait_for_its_slot_are_shown(
    prefect: SyncPrefectClient,
) -> None:
    deployment = prefect.create_deployment(
        prefect.create_flow_from_name("etl"),
        name="daily",
        concurrency_limit=1,
        enforce_parameter_schema=False,
    )
    first, *others = (prefect.create_flow_run_from_deployment(deployment) for _ in range(3))
    for run in (first, *others):
        prefect.set_flow_run_state(run.id, Pending())
    prefect.set_flow_run_state(first.id, Running())

    shown = limit(prefect, "deployment", "etl/daily")

    (holder,) = shown.holders
    assert (shown.taken, shown.total, shown.waiting, shown.unattributed) == (1, 1, 2, 0)
    assert (holder.run, holder.deployment, holder.state) == (first.name, "etl/daily", "Running")
    assert not holder.ended


def test_the_holders_of_global_limits_and_tags_are_shown_and_marked_when_they_have_ended(
    prefect: SyncPrefectClient,
    api_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(out, "width", 200)  # so that no cell wraps
    for name in (LIMIT, f"tag:{TAG}"):
        prefect.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=2))
    with slot_holder(api_url, tmp_path) as (_, run_id):
        assert wait_until(lambda: limit(prefect, "global", LIMIT).holders, 60)
        assert wait_until(lambda: limit(prefect, "tag", TAG).holders, 60)
        shown = [limit(prefect, "global", LIMIT), limit(prefect, "tag", TAG)]
        run = prefect.read_flow_run(run_id)
    for each in shown:
        (holder,) = each.holders
        assert (each.taken, each.total, each.waiting, each.unattributed) == (1, 2, None, 0)
        assert (holder.run, holder.state, holder.ended) == (run.name, "Running", False)

    prefect.set_flow_run_state(run_id, Crashed(), force=True)
    reports.print_limits(ConcurrencyLimits(prefect).read(), LIMIT)

    lines = [line for line in capsys.readouterr().out.splitlines() if run.name in line]
    assert len(lines) == 1
    assert f"{run.name}: ✗ Crashed" in lines[0]


def test_slots_that_no_run_accounts_for_are_counted(
    prefect: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    prefect.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="lost", limit=3))
    prefect.increment_concurrency_slots(["lost"], slots=2, mode="concurrency")

    reports.print_limits(ConcurrencyLimits(prefect).read(), "lost")

    assert "2 without a known holder" in capsys.readouterr().out


def in_pool(prefect: SyncPrefectClient, state: State) -> FlowRun:
    """Create a run in the only queue of the pool `small`."""
    body = {
        "flow_id": str(prefect.create_flow_from_name("in-pool")),
        "work_pool_name": "small",
        "state": state.model_dump(mode="json", include={"type", "name", "state_details"}),
    }
    created = prefect.request("POST", "/flow_runs/", json=body)
    return prefect.read_flow_run(created.json()["id"])


def test_runs_that_a_full_work_pool_or_queue_holds_back_are_counted(
    prefect: SyncPrefectClient,
) -> None:
    prefect.create_work_pool(WorkPoolCreate(name="small", type="kubernetes", concurrency_limit=1))
    (queue,) = prefect.read_work_queues("small")
    prefect.update_work_queue(queue.id, concurrency_limit=2)
    now = dt.datetime.now(dt.UTC)
    running = in_pool(prefect, Running())
    in_pool(prefect, Scheduled(scheduled_time=now))
    in_pool(prefect, Scheduled(scheduled_time=now + dt.timedelta(hours=1)))

    pool = limit(prefect, "work pool", "small")
    of_queue = limit(prefect, "work queue", "small/default")

    assert (pool.taken, pool.total, pool.waiting) == (1, 1, 1)
    assert [holder.run for holder in pool.holders] == [running.name]
    assert (of_queue.taken, of_queue.total, of_queue.waiting) == (1, 2, 0)


def test_an_unknown_name_is_refused(prefect: SyncPrefectClient) -> None:
    with pytest.raises(PlatformError, match="no concurrency limit is called missing"):
        reports.print_limits(ConcurrencyLimits(prefect).read(), "missing")
