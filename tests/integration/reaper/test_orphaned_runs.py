"""A run that nothing moves any more is ended with its cause, and no neighbour of it is touched."""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from prefect_platform.polling import wait_until, wait_while
from prefect_platform.reaper import flow_runs
from prefect_platform.reaper.pass_report import EVENT
from tests.integration.reaper.reaped_pool import BACKOFF, COMPLETE, DEADLINE, ReapedPool
from tests.support.kubernetes_api import NAMESPACE

LIVE = {
    "Running": "RUNNING",
    "InfrastructurePending": "PENDING",
    "PodRefused": "PENDING",
    "Cancelling": "CANCELLING",
}


@pytest.mark.parametrize("name", LIVE)
def test_a_run_whose_job_is_gone_ends_and_its_state_names_the_job(
    reaped: ReapedPool, name: str
) -> None:
    run = reaped.run(name, kind=LIVE[name], job="gone")

    assert reaped.reap() == {"run_without_job": 1}
    assert reaped.state(run) == (
        "Cancelled" if name == "Cancelling" else "Crashed",
        f"The Job {NAMESPACE}/gone does not exist any more, and the run was still {name}.",
    )
    assert reaped.reap() == {}
    assert len(reaped.states(run)) == 2


def test_a_parameter_of_more_than_64_bits_holds_up_no_run_of_the_pool(reaped: ReapedPool) -> None:
    huge = reaped.run(job="gone", parameters={"count": 2**70})
    other = reaped.run(job="gone too")

    assert reaped.reap() == {"run_without_job": 2}
    assert {reaped.state(run)[0] for run in (huge, other)} == {"Crashed"}
    assert reaped.client.read_flow_run(huge).parameters == {"count": 2**70}


@pytest.mark.parametrize("end", [DEADLINE, BACKOFF, COMPLETE])
@pytest.mark.parametrize("noted", [True, False])
def test_a_run_whose_job_has_ended_ends_with_the_reason_of_kubernetes(
    reaped: ReapedPool, end: dict[str, str], *, noted: bool
) -> None:
    run = reaped.run(job="ended" if noted else None)
    reaped.job(run, "ended", end)

    assert reaped.reap() == {"run_with_ended_job": 1}
    cause = ": ".join(filter(None, [end["type"], end["reason"], end["message"]]))
    assert reaped.state(run) == (
        "Crashed",
        f"The Job {NAMESPACE}/ended has ended ({cause}), and the run was still Running.",
    )
    assert reaped.jobs() == {"ended"}
    assert reaped.reap() == {}


@pytest.mark.parametrize("name", ["Pending", "Submitting", "InfrastructurePending"])
def test_a_run_that_was_submitted_and_then_nothing_ends_after_a_time(
    reaped: ReapedPool, name: str
) -> None:
    run = reaped.run(name, kind="PENDING")

    assert reaped.reap() == {}
    assert reaped.reap(submission=0) == {"run_never_submitted": 1}
    state, message = reaped.state(run)
    assert state == "Crashed"
    assert message.startswith(f"The run was {name} for 0 min without a Job in {NAMESPACE}: ")
    assert reaped.reap(submission=0) == {}


@pytest.mark.parametrize("name", LIVE)
def test_a_run_whose_job_has_not_ended_is_left_alone_whatever_it_waits_for(
    reaped: ReapedPool, name: str
) -> None:
    run = reaped.run(name, kind=LIVE[name], job="active")
    reaped.job(run, "active")

    assert reaped.reap(submission=0) == {}
    assert reaped.state(run) == (name, "as before")


def test_a_job_that_is_being_deleted_has_not_ended(reaped: ReapedPool) -> None:
    run = reaped.run(job="leaving")
    job = reaped.job(run, "leaving", BACKOFF)
    job["metadata"]["deletionTimestamp"] = job["metadata"]["creationTimestamp"]

    assert reaped.reap() == {}


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


def test_a_run_of_elsewhere_is_left_alone(reaped: ReapedPool) -> None:
    elsewhere, nowhere, of_another_pool = reaped.run(), reaped.run(), reaped.run(job="gone")
    reaped.client.update_flow_run(elsewhere, infrastructure_pid="another-namespace:job")
    neighbour = ReapedPool.create(reaped.api_url, reaped.kubernetes)

    assert neighbour.reap(submission=0) == {}
    assert reaped.state(of_another_pool) == ("Running", "as before")
    assert reaped.reap(submission=0) == {"run_without_job": 1}
    assert {reaped.state(run) for run in (elsewhere, nowhere)} == {("Running", "as before")}


@pytest.mark.parametrize("left", ["ended", "deleted"])
def test_the_job_of_an_earlier_attempt_says_nothing_about_the_next_one(
    reaped: ReapedPool, left: str
) -> None:
    run = reaped.run("Submitting", kind="PENDING", job="first")
    if left == "ended":
        reaped.job(run, "first", BACKOFF, seconds_ago=60)

    assert reaped.reap() == {}
    assert reaped.state(run) == ("Submitting", "as before")
    assert reaped.reap(submission=0) == {"run_never_submitted": 1}


def test_the_job_of_this_attempt_tells_the_cause_also_before_the_run_has_noticed_it(
    reaped: ReapedPool,
) -> None:
    run = reaped.run("Submitting", kind="PENDING")
    reaped.job(run, "this", DEADLINE)

    assert reaped.reap(submission=0) == {"run_with_ended_job": 1}
    assert "DeadlineExceeded" in reaped.state(run)[1]


def test_what_a_run_has_called_ends_after_it_and_with_its_process(reaped: ReapedPool) -> None:
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
        f"The run was still Running when the run {name}, in whose process it lived, had ended "
        "Failed.",
    )
    assert reaped.state(innermost)[0] == "Crashed"
    assert reaped.reap() == {}


def test_a_called_run_is_left_to_whoever_else_ends_it(reaped: ReapedPool) -> None:
    running = reaped.run(job="active")
    reaped.job(running, "active")
    cancelled = reaped.run("Cancelled")
    elsewhere = reaped.run("Crashed", work_pool_name=None)
    inside = [reaped.called_by(outer) for outer in (running, cancelled, elsewhere)]
    task_run = reaped.client.read_flow_run(inside[0]).parent_task_run_id
    own_job = reaped.run(job="its-own", parent_task_run_id=str(task_run))
    reaped.job(own_job, "its-own")

    assert reaped.reap() == {}
    # Prefect may have cancelled what the cancelled run had called.
    assert {reaped.state(run)[0] for run in inside} <= {"Running", "Cancelled"}
    assert reaped.state(inside[0])[0] == reaped.state(own_job)[0] == "Running"


def test_a_called_run_whose_caller_is_run_once_more_is_left_alone(reaped: ReapedPool) -> None:
    outer = reaped.run("Crashed", job="first")
    inner = reaped.called_by(outer)

    async def again() -> None:
        state = {"type": "RUNNING", "name": "Running"}
        reaped.client.request(
            "POST",
            "/flow_runs/{id}/set_state",
            path_params={"id": outer},
            json={"state": state, "force": True},
        )

    assert reaped.reap(after=again) == {}
    assert reaped.state(inner)[0] == "Running"


def test_a_run_that_ends_by_itself_in_between_keeps_its_end(reaped: ReapedPool) -> None:
    run = reaped.run(job="gone")

    assert reaped.reap(after=lambda: reaped.complete(run)) == {}
    assert reaped.state(run) == ("Completed", "by itself")


def test_a_run_that_ends_by_itself_at_the_last_moment_keeps_its_end(
    reaped: ReapedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reaped.run(job="gone")
    unchanged = flow_runs.is_unchanged

    async def then_ends(client: PrefectClient, judged: FlowRun) -> bool:
        answer = await unchanged(client, judged)
        await reaped.complete(run)
        return answer

    monkeypatch.setattr(flow_runs, "is_unchanged", then_ends)
    assert reaped.reap() == {}
    assert reaped.state(run) == ("Completed", "by itself")


def test_a_job_that_appears_in_between_saves_its_run(reaped: ReapedPool) -> None:
    run = reaped.run("Submitting", kind="PENDING")

    async def appears() -> None:
        reaped.job(run, "late")

    assert reaped.reap(submission=0, before=appears) == {}
    assert reaped.state(run) == ("Submitting", "as before")


def test_a_run_that_its_worker_notes_a_job_for_at_the_last_moment_is_left_alone(
    reaped: ReapedPool,
) -> None:
    run = reaped.run("Submitting", kind="PENDING")

    async def noted() -> None:
        reaped.client.update_flow_run(run, infrastructure_pid=f"{NAMESPACE}:late")

    assert reaped.reap(submission=0, after=noted) == {}
    assert reaped.state(run) == ("Submitting", "as before")


def test_two_reapers_at_once_end_each_run_once(reaped: ReapedPool) -> None:
    runs = [reaped.run(job=f"gone-{number}") for number in range(5)]

    async def both() -> int:
        async with reaped.reaper() as (one, of_one), reaped.reaper() as (other, of_other):
            await asyncio.gather(one.run(), other.run())
        return len(of_one.entries) + len(of_other.entries)

    assert asyncio.run(both()) == len(runs)
    assert [reaped.states(run) for run in runs] == [["Running", "Crashed"]] * len(runs)


def test_no_page_of_runs_or_jobs_is_overlooked(
    reaped: ReapedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_runs, "_PAGE", 2)
    reaped.kubernetes.page = 2
    gone = [reaped.run(job=f"gone-{number}") for number in range(5)]
    running = [reaped.run(job=f"active-{number}") for number in range(5)]
    for number, run in enumerate(running):
        reaped.job(run, f"active-{number}")

    assert reaped.reap() == {"run_without_job": len(gone)}
    assert {reaped.state(run)[0] for run in gone} == {"Crashed"}
    assert {reaped.state(run)[0] for run in running} == {"Running"}


def test_a_run_that_sends_no_heartbeat_is_named_and_left_alone(reaped: ReapedPool) -> None:
    silent, beating, waiting = (
        reaped.run(name, kind=kind, job=job)
        for name, kind, job in (
            ("Running", "RUNNING", "silent"),
            ("Running", "RUNNING", "beating"),
            ("InfrastructurePending", "PENDING", "waiting"),
        )
    )
    for run, job in ((silent, "silent"), (beating, "beating"), (waiting, "waiting")):
        reaped.job(run, job)

    named: list[dict[str, str]] = []
    silence = 5.0

    def unnamed() -> bool:
        nonlocal named, silence
        sent = time.monotonic()
        heartbeat = {
            "id": str(uuid.uuid4()),
            "event": "prefect.flow-run.heartbeat",
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{beating}"},
        }
        reaped.client.request("POST", "/events", json=[heartbeat])
        wanted = {"filter": {"id": {"id": [heartbeat["id"]]}}}

        def stored() -> bool:
            answer = reaped.client.request("POST", "/events/filter", json=wanted)
            return bool(answer.json()["events"])

        assert wait_until(stored, 60), "the heartbeat is not stored"
        named = reaped.passed(silence=silence).entries
        if (taken := time.monotonic() - sent) < silence:
            return not named
        silence = 2 * taken  # the heartbeat may have been too old when it was looked for
        return True

    assert not wait_while(unnamed, 180)
    assert named == [{"reason": "run_silent", "flow_run": str(silent)}]
    assert {reaped.state(run)[0] for run in (silent, beating)} == {"Running"}


def test_a_pass_that_did_something_is_an_event_of_the_work_pool(reaped: ReapedPool) -> None:
    runs = sorted(str(reaped.run(job=f"gone-{number}")) for number in range(2))
    wanted = {
        "filter": {
            "event": {"name": [EVENT]},
            "resource": {"id": [f"prefect.work-pool.{reaped.pool.id}"]},
        }
    }

    def events() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = reaped.client.request(
            "POST", "/events/filter", json=wanted
        ).json()["events"]
        return found

    assert reaped.reap(dry_run=True) == reaped.reap() == {"run_without_job": 2}
    reaped.reap()

    assert wait_until(events, 60)
    (event,) = events()
    assert event["payload"]["counts"] == {"run_without_job": 2}
    assert sorted(each["flow_run"] for each in event["payload"]["objects"]) == runs
