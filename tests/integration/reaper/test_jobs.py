"""The reaper deletes Jobs that are no longer needed, and keeps all others."""

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
    JobsWithHooks,
    ReapedPool,
)


@pytest.mark.parametrize("end", [None, BACKOFF, COMPLETE])
def test_a_job_whose_run_was_deleted_is_deleted_after_the_grace_period(
    reaped: ReapedPool, end: dict[str, str] | None
) -> None:
    run = reaped.run("Completed")
    delete(reaped.client, "/flow_runs/{id}", id=run)
    reaped.job(run, "orphan", end)

    assert reaped.reap(grace=60) == {}
    assert reaped.reap() == {"job_without_run": 1}
    assert reaped.jobs() == set()
    assert reaped.reap() == {}


def test_a_succeeded_job_is_deleted_after_its_retention_period(reaped: ReapedPool) -> None:
    run = reaped.run("Completed", job="done")
    reaped.job(run, "done", COMPLETE, seconds_ago=120)

    assert reaped.reap(succeeded_job=600) == {}
    assert reaped.reap(succeeded_job=60) == {"job_succeeded": 1}
    assert reaped.jobs() == set()
    assert reaped.reap(succeeded_job=60) == {}
    assert reaped.states(run) == ["Completed"]


@pytest.mark.parametrize("end", [BACKOFF, DEADLINE, None])
def test_a_failed_or_unfinished_job_is_left_to_its_ttl(
    reaped: ReapedPool, end: dict[str, str] | None
) -> None:
    reaped.job(reaped.run("Failed"), "kept", end, seconds_ago=7200)

    assert reaped.reap(succeeded_job=0) == {}
    assert reaped.jobs() == {"kept"}


@pytest.mark.parametrize("state", ["Crashed", "Cancelled"])
def test_an_unfinished_job_of_a_dead_run_is_deleted_after_the_grace_period(
    reaped: ReapedPool, state: str
) -> None:
    run = reaped.run(state, job="frozen")
    reaped.job(run, "frozen", seconds_ago=7200)

    assert reaped.reap(grace=60) == {}
    assert reaped.reap() == {"job_of_dead_run": 1}
    assert reaped.jobs() == set()
    assert reaped.reap() == {}
    assert reaped.states(run) == [state]


@pytest.mark.parametrize("state", ["Crashed", "Cancelled"])
def test_a_hook_may_run_for_the_declared_time_after_its_run_has_ended(
    reaped: ReapedPool, state: str
) -> None:
    run = reaped.run(state, job="hook")
    reaped.job(run, "hook", seconds_ago=7200)
    reaped.pod(run)

    assert reaped.reap(later=3500) == reaped.reap(later=3500) == {}
    assert reaped.jobs() == {"hook"}
    assert reaped.reap(later=4000) == {"job_of_dead_run": 1}
    assert reaped.jobs() == set()
    assert reaped.reap(later=4000) == {}


def test_a_pod_of_a_dead_run_that_has_not_started_is_deleted_after_the_grace_period(
    reaped: ReapedPool,
) -> None:
    run = reaped.run("Crashed", job="waiting")
    reaped.job(run, "waiting", seconds_ago=7200)
    reaped.pod(run, phase="Pending")

    assert reaped.reap(grace=60) == {}
    assert reaped.reap() == {"job_of_dead_run": 1}


@pytest.mark.parametrize("end", [BACKOFF, DEADLINE])
def test_the_failed_job_of_a_crashed_run_is_kept_for_inspection(
    reaped: ReapedPool, end: dict[str, str]
) -> None:
    reaped.job(reaped.run("Crashed"), "kept", end, seconds_ago=7200)

    assert reaped.reap(succeeded_job=0) == {}
    assert reaped.jobs() == {"kept"}


def test_a_succeeded_job_is_kept_until_its_run_has_ended(reaped: ReapedPool) -> None:
    run = reaped.run(job="done")
    reaped.job(run, "done", COMPLETE, seconds_ago=7200)

    assert reaped.reap() == {"run_with_ended_job": 1}
    assert reaped.jobs() == {"done"}
    assert reaped.reap() == {"job_succeeded": 1}


def test_jobs_of_other_pools_and_jobs_without_valid_labels_are_never_touched(
    reaped: ReapedPool,
) -> None:
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


def test_a_job_that_changes_before_its_deletion_is_kept(
    reaped: ReapedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = JobsWithHooks.delete

    async def change_then_delete(self: JobsWithHooks, job: object) -> bool:
        reaped.job(missing, "reused")
        return await delete(self, job)  # type: ignore[arg-type]

    missing = uuid.uuid4()
    reaped.job(missing, "reused", BACKOFF)
    with monkeypatch.context() as patch:
        patch.setattr(JobsWithHooks, "delete", change_then_delete)
        assert reaped.reap() == {}
    assert reaped.jobs() == {"reused"}
    assert reaped.reap() == {"job_without_run": 1}


def test_two_concurrent_reapers_delete_each_job_once(reaped: ReapedPool) -> None:
    for number in range(5):
        reaped.job(uuid.uuid4(), f"orphan-{number}")

    async def both() -> int:
        async with reaped.reaper() as (one, of_one), reaped.reaper() as (other, of_other):
            await asyncio.gather(one.run(), other.run())
        return len(of_one.entries) + len(of_other.entries)

    assert asyncio.run(both()) == 5
    assert reaped.jobs() == set()


def test_a_job_is_deleted_with_its_pods_and_only_in_the_version_that_was_read(
    reaped: ReapedPool,
) -> None:
    job = reaped.job(uuid.uuid4(), "orphan")["metadata"]
    reaped.reap()

    (options,) = reaped.kubernetes.deletions
    assert options["propagationPolicy"] == "Background"
    assert options["preconditions"] == {
        "uid": job["uid"],
        "resourceVersion": job["resourceVersion"],
    }


def test_a_dry_run_reports_everything_and_changes_nothing(
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
    logged = capsys.readouterr().err.splitlines()
    assert len(logged) == 5
    assert all(line.startswith(f"{reaped.pool.name}: would have ") for line in logged)
    assert not [each for each in reaped.kubernetes.requests if each.startswith("DELETE")]
    assert reaped.reap(succeeded_job=0) == first


@pytest.mark.parametrize("status", [HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED])
def test_no_run_is_ended_if_kubernetes_refuses_to_list_jobs(
    reaped: ReapedPool, status: HTTPStatus
) -> None:
    run = reaped.run(job="gone")
    reaped.kubernetes.refuse("jobs", status=status)

    with pytest.raises(PlatformError, match=f"refused to list Jobs in default: {status}"):
        reaped.reap()
    assert reaped.state(run) == ("Running", "as before")
