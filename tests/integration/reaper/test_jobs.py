"""A Job that nobody needs any more is deleted, and one that somebody may need is not."""

import asyncio
import uuid
from http import HTTPStatus

import pytest

from prefect_platform.configuration.core.prefect_api import delete
from prefect_platform.errors import PlatformError
from tests.integration.reaper.reaped_pool import (
    BACKOFF,
    COMPLETE,
    DEADLINE,
    JobsWithSomethingBetween,
    ReapedPool,
)


@pytest.mark.parametrize("end", [None, BACKOFF, COMPLETE])
def test_a_job_whose_run_was_deleted_goes_after_the_grace(
    reaped: ReapedPool, end: dict[str, str] | None
) -> None:
    run = reaped.run("Completed")
    delete(reaped.client, "/flow_runs/{id}", id=run)
    reaped.job(run, "orphan", end)

    assert reaped.reap(grace=60) == {}
    assert reaped.reap() == {"job_without_run": 1}
    assert reaped.jobs() == set()
    assert reaped.reap() == {}


def test_a_job_that_succeeded_goes_after_its_time(reaped: ReapedPool) -> None:
    run = reaped.run("Completed", job="done")
    reaped.job(run, "done", COMPLETE, seconds_ago=120)

    assert reaped.reap(succeeded_job=600) == {}
    assert reaped.reap(succeeded_job=60) == {"job_succeeded": 1}
    assert reaped.jobs() == set()
    assert reaped.reap(succeeded_job=60) == {}
    assert reaped.states(run) == ["Completed"]


@pytest.mark.parametrize("end", [BACKOFF, DEADLINE, None])
def test_a_job_that_failed_or_still_runs_is_left_to_its_ttl(
    reaped: ReapedPool, end: dict[str, str] | None
) -> None:
    reaped.job(reaped.run("Failed"), "kept", end, seconds_ago=7200)

    assert reaped.reap(succeeded_job=0) == {}
    assert reaped.jobs() == {"kept"}


@pytest.mark.parametrize("state", ["Crashed", "Cancelled"])
def test_a_job_that_goes_on_after_its_run_was_given_up_goes_after_the_grace(
    reaped: ReapedPool, state: str
) -> None:
    run = reaped.run(state, job="frozen")
    reaped.job(run, "frozen", seconds_ago=7200)

    assert reaped.reap(grace=60) == {}
    assert reaped.reap() == {"job_of_dead_run": 1}
    assert reaped.jobs() == set()
    assert reaped.reap() == {}
    assert reaped.states(run) == [state]


@pytest.mark.parametrize("end", [BACKOFF, DEADLINE])
def test_the_ended_job_of_a_crashed_run_stays_to_be_looked_at(
    reaped: ReapedPool, end: dict[str, str]
) -> None:
    reaped.job(reaped.run("Crashed"), "kept", end, seconds_ago=7200)

    assert reaped.reap(succeeded_job=0) == {}
    assert reaped.jobs() == {"kept"}


def test_a_job_that_succeeded_stays_until_its_run_has_been_told(reaped: ReapedPool) -> None:
    run = reaped.run(job="done")
    reaped.job(run, "done", COMPLETE, seconds_ago=7200)

    assert reaped.reap() == {"run_with_ended_job": 1}
    assert reaped.jobs() == {"done"}
    assert reaped.reap() == {"job_succeeded": 1}


def test_a_job_of_somebody_else_is_never_touched(reaped: ReapedPool) -> None:
    missing = uuid.uuid4()
    for name, labels in (
        ("of-another-pool", {"prefect.io/work-pool-id": str(uuid.uuid4())}),
        ("of-another-making", {"prefect.io/flow-run-id": "no-uuid"}),
    ):
        reaped.job(missing, name, COMPLETE, seconds_ago=7200, **labels)
    for name, label in (
        ("without-a-run", "prefect.io/flow-run-id"),
        ("without-a-pool", "prefect.io/work-pool-id"),
    ):
        job = reaped.job(missing, name, COMPLETE, seconds_ago=7200)
        del job["metadata"]["labels"][label]
    before = reaped.jobs()

    assert reaped.reap(succeeded_job=0) == {}
    assert reaped.jobs() == before


def test_a_job_that_changes_before_it_is_deleted_stays(
    reaped: ReapedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = JobsWithSomethingBetween.delete

    async def changed(self: JobsWithSomethingBetween, job: object) -> bool:
        reaped.job(missing, "reused")
        return await delete(self, job)  # type: ignore[arg-type]

    missing = uuid.uuid4()
    reaped.job(missing, "reused", BACKOFF)
    with monkeypatch.context() as patch:
        patch.setattr(JobsWithSomethingBetween, "delete", changed)
        assert reaped.reap() == {}
    assert reaped.jobs() == {"reused"}
    assert reaped.reap() == {"job_without_run": 1}


def test_two_reapers_at_once_delete_each_job_once(reaped: ReapedPool) -> None:
    for number in range(5):
        reaped.job(uuid.uuid4(), f"orphan-{number}")

    async def both() -> int:
        async with reaped.reaper() as (one, of_one), reaped.reaper() as (other, of_other):
            await asyncio.gather(one.run(), other.run())
        return len(of_one.entries) + len(of_other.entries)

    assert asyncio.run(both()) == 5
    assert reaped.jobs() == set()


def test_a_job_is_deleted_as_it_was_read_and_with_its_pods(reaped: ReapedPool) -> None:
    job = reaped.job(uuid.uuid4(), "orphan")["metadata"]
    reaped.reap()

    (options,) = reaped.kubernetes.deletions
    assert options["propagationPolicy"] == "Background"
    assert options["preconditions"] == {
        "uid": job["uid"],
        "resourceVersion": job["resourceVersion"],
    }


def test_a_dry_run_says_all_and_changes_nothing(
    reaped: ReapedPool, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, ended = reaped.run(job="gone"), reaped.run(job="ended")
    reaped.job(ended, "ended", BACKOFF)
    reaped.job(reaped.run("Completed"), "done", COMPLETE)
    reaped.job(uuid.uuid4(), "orphan")
    inner = reaped.called_by(reaped.run("Crashed"))
    before = reaped.jobs()
    first = reaped.reap(dry_run=True, succeeded_job=0)

    assert first == {
        "job_succeeded": 1,
        "job_without_run": 1,
        "run_in_dead_run": 1,
        "run_with_ended_job": 1,
        "run_without_job": 1,
    }
    assert reaped.jobs() == before
    assert {reaped.state(run) for run in (gone, ended, inner)} == {("Running", "as before")}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    assert all(line.startswith(f"{reaped.pool.name}: would have ") for line in said)
    assert not [each for each in reaped.kubernetes.requests if each.startswith("DELETE")]
    assert reaped.reap(succeeded_job=0) == first


@pytest.mark.parametrize("status", [HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED])
def test_without_an_answer_of_kubernetes_nothing_is_judged(
    reaped: ReapedPool, status: HTTPStatus
) -> None:
    run = reaped.run(job="gone")
    reaped.kubernetes.refuse("jobs", status=status)

    with pytest.raises(PlatformError, match=f"refused to list Jobs in default: {status}"):
        reaped.reap()
    assert reaped.state(run) == ("Running", "as before")
