"""The reaper ends orphaned runs and states the cause; it leaves all other runs alone."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Pending

from prefect_platform.polling import wait_until
from prefect_platform.reaper import flow_runs
from prefect_platform.reaper.pass_report import EVENT
from tests.integration.reaper.reaped_pool import BACKOFF, COMPLETE, DEADLINE, ReapedPool
from tests.support.kubernetes_api import NAMESPACE

SILENT = "It has sent no heartbeat for 0 min."
LIVE = {
    "Running": "RUNNING",
    "InfrastructurePending": "PENDING",
    "PodRefused": "PENDING",
    "Cancelling": "CANCELLING",
}


@pytest.mark.parametrize("name", LIVE)
def test_a_run_whose_job_was_deleted_is_ended_and_its_state_names_the_job(
    reaped: ReapedPool, name: str
) -> None:
    run = reaped.run(name, kind=LIVE[name], job="gone")

    assert reaped.reap() == {"run_without_job": 1}
    assert reaped.state(run) == (
        "Cancelled" if name == "Cancelling" else "Crashed",
        f"The Job {NAMESPACE}/gone no longer exists, but the run was still {name}. {SILENT}",
    )
    assert reaped.reap() == {}
    assert len(reaped.states(run)) == 2


def test_runs_are_ended_even_if_one_has_a_parameter_of_more_than_64_bits(
    reaped: ReapedPool,
) -> None:
    huge = reaped.run(job="gone", parameters={"count": 2**70})
    other = reaped.run(job="gone too")

    assert reaped.reap() == {"run_without_job": 2}
    assert {reaped.state(run)[0] for run in (huge, other)} == {"Crashed"}
    assert reaped.client.read_flow_run(huge).parameters == {"count": 2**70}


@pytest.mark.parametrize("end", [DEADLINE, BACKOFF, COMPLETE])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_whose_job_has_ended_is_ended_with_the_reason_from_kubernetes(
    reaped: ReapedPool, end: dict[str, str], *, recorded: bool
) -> None:
    run = reaped.run(job="ended" if recorded else None)
    reaped.job(run, "ended", end)

    assert reaped.reap() == {"run_with_ended_job": 1}
    cause = ": ".join(filter(None, [end["type"], end["reason"], end["message"]]))
    assert reaped.state(run) == (
        "Crashed",
        f"The Job {NAMESPACE}/ended has ended ({cause}), but the run was still Running. {SILENT}",
    )
    assert reaped.jobs() == {"ended"}
    assert reaped.reap() == {}


@pytest.mark.parametrize("name", LIVE)
def test_a_run_whose_job_has_not_ended_is_left_alone_in_every_live_state(
    reaped: ReapedPool, name: str
) -> None:
    run = reaped.run(name, kind=LIVE[name], job="active")
    reaped.job(run, "active")

    assert reaped.reap(submission=0) == ({"run_silent": 1} if name == "Running" else {})
    assert reaped.state(run) == (name, "as before")


def test_a_job_that_is_being_deleted_does_not_count_as_ended(reaped: ReapedPool) -> None:
    run = reaped.run(job="leaving")
    job = reaped.job(run, "leaving", BACKOFF)
    job["metadata"]["deletionTimestamp"] = job["metadata"]["creationTimestamp"]

    assert reaped.reap() == {"run_silent": 1}


def test_a_job_that_has_lost_its_label_is_found_by_its_name(reaped: ReapedPool) -> None:
    run = reaped.run(job="relabelled")
    del reaped.job(run, "relabelled")["metadata"]["labels"]["prefect.io/flow-run-id"]

    assert reaped.reap() == {}
    assert reaped.state(run) == ("Running", "as before")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("SCHEDULED", "AwaitingRetry"),
        ("PAUSED", "Suspended"),
        ("COMPLETED", "Completed"),
        ("FAILED", "Failed"),
    ],
)
def test_a_run_that_waits_without_a_job_or_has_ended_is_left_alone(
    reaped: ReapedPool, kind: str, name: str
) -> None:
    run = reaped.run(name, kind=kind, job="gone")

    assert reaped.reap(submission=0) == {}
    assert reaped.state(run) == (name, "as before")


def test_runs_of_other_pools_or_namespaces_and_runs_that_had_no_job_are_left_alone(
    reaped: ReapedPool,
) -> None:
    elsewhere, without_job, orphan = reaped.run(), reaped.run(), reaped.run(job="gone")
    reaped.client.update_flow_run(elsewhere, infrastructure_pid="another-namespace:job")
    other_pool = ReapedPool.create(reaped.api_url, reaped.kubernetes)

    assert other_pool.reap(submission=0) == {}
    assert reaped.state(orphan) == ("Running", "as before")
    assert reaped.reap(submission=0) == {"run_silent": 1, "run_without_job": 1}
    assert {reaped.state(run) for run in (elsewhere, without_job)} == {("Running", "as before")}


def test_the_job_of_the_current_attempt_gives_the_cause_before_it_is_recorded_on_the_run(
    reaped: ReapedPool,
) -> None:
    run = reaped.run("Submitting", kind="PENDING")
    reaped.job(run, "this", DEADLINE)

    assert reaped.reap(submission=0) == {"run_with_ended_job": 1}
    assert "DeadlineExceeded" in reaped.state(run)[1]


def test_the_job_of_the_current_attempt_may_be_older_than_the_state_of_the_run(
    reaped: ReapedPool,
) -> None:
    run = reaped.run("Pending")
    reaped.job(run, "this", DEADLINE)
    second = datetime.now(UTC).second
    assert wait_until(lambda: datetime.now(UTC).second != second, 5)
    # What the worker's observer sets, when the worker was killed before it recorded the Job.
    reaped.client.set_flow_run_state(run, Pending(name="InfrastructurePending"), force=True)

    assert reaped.reap(submission=0) == {"run_with_ended_job": 1}
    assert "DeadlineExceeded" in reaped.state(run)[1]


def test_called_runs_are_ended_once_their_caller_and_its_job_have_ended(reaped: ReapedPool) -> None:
    outer = reaped.run("Failed", job="process")
    inner = reaped.called_by(outer)
    innermost = reaped.called_by(inner, "Pending")
    reaped.job(outer, "process")

    assert reaped.reap() == {}
    reaped.job(outer, "process", BACKOFF)
    assert reaped.reap() == {"run_in_dead_run": 2}
    name = reaped.client.read_flow_run(outer).name
    assert reaped.state(inner) == (
        "Crashed",
        f"The run was still Running after the run {name}, in whose process it ran, had ended in "
        "the state Failed.",
    )
    assert reaped.state(innermost)[0] == "Crashed"
    assert reaped.reap() == {}


def test_a_called_run_that_sends_heartbeats_is_left_alone(reaped: ReapedPool) -> None:
    inner = reaped.called_by(reaped.run("Failed"))
    reaped.heartbeat(inner, later=600)

    assert reaped.reap(later=900, silence=600) == {}
    assert reaped.reap(later=1300, silence=600) == {"run_in_dead_run": 1}
    assert reaped.state(inner)[0] == "Crashed"


def test_called_runs_that_the_reaper_is_not_responsible_for_are_left_alone(
    reaped: ReapedPool,
) -> None:
    running = reaped.run(job="active")
    reaped.job(running, "active")
    cancelled = reaped.run("Cancelled")
    elsewhere = reaped.run("Crashed", work_pool_name=None)
    inside = [reaped.called_by(outer) for outer in (running, cancelled, elsewhere)]
    task_run = reaped.client.read_flow_run(inside[0]).parent_task_run_id
    own_job = reaped.run(job="its-own", parent_task_run_id=str(task_run))
    reaped.job(own_job, "its-own")

    assert reaped.reap() == {"run_silent": 2}
    # Prefect may already have cancelled the run that the cancelled one had called.
    assert {reaped.state(run)[0] for run in inside} <= {"Running", "Cancelled"}
    assert reaped.state(inside[0])[0] == reaped.state(own_job)[0] == "Running"


def test_a_called_run_whose_caller_is_restarted_is_left_alone(reaped: ReapedPool) -> None:
    outer = reaped.run("Crashed", job="first")
    inner = reaped.called_by(outer)

    async def restart() -> None:
        state = {"type": "RUNNING", "name": "Running"}
        reaped.client.request(
            "POST",
            "/flow_runs/{id}/set_state",
            path_params={"id": outer},
            json={"state": state, "force": True},
        )

    assert reaped.reap(after=restart) == {}
    assert reaped.state(inner)[0] == "Running"


def test_a_run_that_ends_by_itself_during_a_pass_keeps_its_final_state(reaped: ReapedPool) -> None:
    run = reaped.run(job="gone")

    assert reaped.reap(after=lambda: reaped.complete(run)) == {}
    assert reaped.state(run) == ("Completed", "by itself")


def test_a_run_that_ends_by_itself_at_the_last_moment_keeps_its_final_state(
    reaped: ReapedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reaped.run(job="gone")
    unchanged = flow_runs.is_unchanged

    async def check_then_complete(client: PrefectClient, judged: FlowRun) -> bool:
        answer = await unchanged(client, judged)
        await reaped.complete(run)
        return answer

    monkeypatch.setattr(flow_runs, "is_unchanged", check_then_complete)
    assert reaped.reap() == {}
    assert reaped.state(run) == ("Completed", "by itself")


def test_a_request_to_end_a_run_is_not_repeated_when_its_answer_is_lost(
    reaped: ReapedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reaped.run(job="gone")
    send, ends = httpx.AsyncClient.send, 0

    async def lose_the_answer(
        client: httpx.AsyncClient,
        request: httpx.Request,
        **options: Any,  # noqa: ANN401
    ) -> httpx.Response:
        nonlocal ends
        answer = await send(client, request, **options)
        if request.url.path.endswith("/set_state"):
            ends += 1
            raise httpx.ReadError("the API was stopped")
        return answer

    monkeypatch.setattr(httpx.AsyncClient, "send", lose_the_answer)

    assert reaped.reap() == {}
    assert ends == 1
    assert reaped.state(run)[0] == "Crashed"


def test_two_concurrent_reapers_end_each_run_once(reaped: ReapedPool) -> None:
    runs = [reaped.run(job=f"gone-{number}") for number in range(5)]

    async def both() -> int:
        async with reaped.reaper() as (one, of_one), reaped.reaper() as (other, of_other):
            await asyncio.gather(one.run(), other.run())
        return len(of_one.entries) + len(of_other.entries)

    assert asyncio.run(both()) == len(runs)
    assert [reaped.states(run) for run in runs] == [["Running", "Crashed"]] * len(runs)


def test_every_page_of_runs_and_jobs_is_read(
    reaped: ReapedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_runs, "_PAGE", 2)
    reaped.kubernetes.page = 2
    gone = [reaped.run(job=f"gone-{number}") for number in range(5)]
    running = [reaped.run(job=f"active-{number}") for number in range(5)]
    for number, run in enumerate(running):
        reaped.job(run, f"active-{number}")

    assert reaped.reap() == {"run_silent": len(running), "run_without_job": len(gone)}
    assert {reaped.state(run)[0] for run in gone} == {"Crashed"}
    assert {reaped.state(run)[0] for run in running} == {"Running"}


def test_a_pass_that_changed_something_emits_one_event_for_the_work_pool(
    reaped: ReapedPool,
) -> None:
    runs = sorted(str(reaped.run(job=f"gone-{number}")) for number in range(2))
    wanted = {
        "event": {"name": [EVENT]},
        "resource": {"id": [f"prefect.work-pool.{reaped.pool.id}"]},
    }

    assert reaped.reap(dry_run=True) == reaped.reap() == {"run_without_job": 2}
    reaped.reap()

    assert wait_until(lambda: reaped.events(wanted), 60)
    (event,) = reaped.events(wanted)
    assert event["payload"]["counts"] == {"run_without_job": 2}
    assert sorted(each["flow_run"] for each in event["payload"]["objects"]) == runs
