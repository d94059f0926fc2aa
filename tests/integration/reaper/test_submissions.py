"""The reaper gives back runs that a worker took and created no Job for, and only those."""

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Pending, Scheduled

from prefect_platform.reaper.submissions import attempts_without_job
from tests.integration.reaper.reaped_pool import BACKOFF, ReapedPool
from tests.support.kubernetes_api import NAMESPACE


@pytest.mark.parametrize("name", ["Pending", "Submitting", "InfrastructurePending"])
def test_a_run_that_gets_no_job_within_the_submission_period_is_given_back(
    reaped: ReapedPool, name: str
) -> None:
    run = reaped.run(name, kind="PENDING")

    assert reaped.reap() == {}
    assert reaped.reap(submission=0, dry_run=True) == {"run_given_back": 1}
    assert reaped.state(run) == (name, "as before")
    assert reaped.reap(submission=0) == {"run_given_back": 1}
    assert reaped.state(run) == (
        "Scheduled",
        f"The run was {name} for 0 min without a Job in {NAMESPACE}: the worker that took it was "
        "probably stopped. It is given to a worker again.",
    )
    assert reaped.reap(submission=0) == {}


def test_a_run_that_never_gets_a_job_ends_with_its_fifth_attempt(reaped: ReapedPool) -> None:
    run = reaped.run("Scheduled")
    for _ in range(4):
        reaped.client.set_flow_run_state(run, Pending())
        assert reaped.reap(submission=0) == {"run_given_back": 1}

    reaped.client.set_flow_run_state(run, Pending())
    assert reaped.reap(submission=0) == {"run_never_submitted": 1}
    state, message = reaped.state(run)
    assert (state, "5 times in a row" in message) == ("Crashed", True)


@pytest.mark.parametrize(
    ("between", "attempts"),
    [("Scheduled", 2), ("AwaitingConcurrencySlot", 2), ("AwaitingRetry", 1)],
)
def test_attempts_are_counted_since_the_run_last_had_a_job(between: str, attempts: int) -> None:
    states: list[State[None]] = [
        Scheduled(),
        Pending(),
        Pending(name="Submitting"),
        Scheduled(name=between),
        Pending(),
    ]

    assert attempts_without_job(states) == attempts


@pytest.mark.parametrize("earlier_job", ["ended", "deleted"])
def test_the_next_attempt_of_a_run_that_had_a_job_is_given_back_too(
    reaped: ReapedPool, earlier_job: str
) -> None:
    run = reaped.run("Submitting", kind="PENDING", job="first")
    if earlier_job == "ended":
        reaped.job(run, "first", BACKOFF, seconds_ago=60)

    assert reaped.reap() == {}
    assert reaped.state(run) == ("Submitting", "as before")
    assert reaped.reap(submission=0) == {"run_given_back": 1}


def test_a_run_of_another_namespace_or_with_a_pod_is_left_alone(reaped: ReapedPool) -> None:
    elsewhere = reaped.run("Submitting", kind="PENDING")
    reaped.client.update_flow_run(elsewhere, infrastructure_pid="another-namespace:job")
    reaped.pod(reaped.run("Submitting", kind="PENDING"), phase="Pending")

    assert reaped.reap(submission=0) == {}


def test_a_run_whose_job_appears_during_a_pass_is_left_alone(reaped: ReapedPool) -> None:
    run = reaped.run("Submitting", kind="PENDING")

    async def create_job() -> None:
        reaped.job(run, "late")

    assert reaped.reap(submission=0, before=create_job) == {}
    assert reaped.state(run) == ("Submitting", "as before")


def test_a_run_whose_job_is_recorded_at_the_last_moment_is_left_alone(
    reaped: ReapedPool,
) -> None:
    run = reaped.run("Submitting", kind="PENDING")

    async def record_job() -> None:
        reaped.client.update_flow_run(run, infrastructure_pid=f"{NAMESPACE}:late")

    assert reaped.reap(submission=0, after=record_job) == {}
    assert reaped.state(run) == ("Submitting", "as before")
