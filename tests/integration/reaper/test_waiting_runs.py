"""The reaper ends a run that waits for what does not come only if both signs agree.

tests/integration/worker/test_waiting_runs.py causes each reason with real parts of Kubernetes.
"""

from typing import Any
from uuid import UUID

import pytest

from tests.integration.reaper.reaped_pool import BACKOFF, ReapedPool
from tests.support.kubernetes_api import NAMESPACE

ENDED = {"job_of_dead_run": 1, "run_unstartable": 1}
NOT_FOUND = "of/one:1: not found"
POLICY = 'Error creating: pods "one-x" is forbidden: violates PodSecurity "restricted:latest"'
QUOTA = 'Error creating: pods "one-x" is forbidden: exceeded quota: jobs, requested: pods=1'


def waiting_run(reaped: ReapedPool, state: str) -> UUID:
    """Create a run in a Pending state, with a Job."""
    run = reaped.run(state, kind="PENDING", job="one")
    reaped.job(run, "one")
    return run


def pod(reaped: ReapedPool, reason: str, message: str, name: str = "one-x") -> None:
    """Create a pod of the Job, whose container waits."""
    state: dict[str, Any] = {"waiting": {"reason": reason, "message": message}}
    status = {"name": "prefect-job", "image": "flows", "imageID": "", "restartCount": 0}
    labels = {"batch.kubernetes.io/controller-uid": "uid-of-one"}
    reaped.kubernetes.put(
        "pods",
        {
            "metadata": {"name": name, "labels": labels},
            "status": {
                "phase": "Pending",
                "containerStatuses": [{**status, "ready": False, "state": state}],
            },
        },
    )


def refusal(reaped: ReapedPool, name: str, message: str, at: str) -> None:
    """Create an Event of the Job."""
    reaped.kubernetes.put(
        "events",
        {
            "metadata": {"name": name},
            "involvedObject": {"uid": "uid-of-one"},
            "reason": "FailedCreate",
            "message": message,
            "lastTimestamp": at,
        },
    )


def test_a_run_whose_image_is_missing_is_ended_after_the_bound_and_its_job_is_deleted(
    reaped: ReapedPool,
) -> None:
    run = waiting_run(reaped, "ImageMissing")
    pod(reaped, "ErrImagePull", NOT_FOUND)

    assert reaped.reap(unstartable=60) == {}
    assert reaped.reap(unstartable=60, later=120, dry_run=True) == ENDED
    assert reaped.state(run) == ("ImageMissing", "as before")
    assert reaped.jobs() == {"one"}
    assert reaped.reap(unstartable=60, later=120) == ENDED
    assert reaped.state(run) == (
        "Crashed",
        f"The image of the pod {NAMESPACE}/one-x does not exist: ErrImagePull: {NOT_FOUND}. The "
        "run has been ImageMissing for 2 min, and waiting does not change that. Next step: correct "
        "the cause, then start the run again. The value reaper.unstartableSeconds of the chart "
        "prefect-worker sets how long this is tolerated.",
    )
    assert reaped.jobs() == set()


@pytest.mark.parametrize("state", ["InfrastructurePending", "WaitingForImage", "ConfigMissing"])
def test_a_reason_that_the_worker_has_not_found_for_so_long_ends_no_run(
    reaped: ReapedPool, state: str
) -> None:
    run = waiting_run(reaped, state)
    pod(reaped, "ErrImagePull", NOT_FOUND)

    assert reaped.reap(unstartable=0) == {}
    assert reaped.state(run) == (state, "as before")


@pytest.mark.parametrize(
    ("reason", "message"),
    [("ErrImagePull", "dial tcp: i/o timeout"), ("ContainerCreating", ""), ("PodInitializing", "")],
)
def test_a_reason_that_kubernetes_does_not_give_any_more_ends_no_run(
    reaped: ReapedPool, reason: str, message: str
) -> None:
    run = waiting_run(reaped, "ImageMissing")
    pod(reaped, reason, message)

    assert reaped.reap(unstartable=0) == {}
    assert reaped.state(run) == ("ImageMissing", "as before")


@pytest.mark.parametrize(
    ("last", "counts"), [(POLICY, ENDED), (QUOTA, {}), ("Error creating: EOF", {})]
)
def test_the_last_refusal_decides_about_a_run_without_a_pod(
    reaped: ReapedPool, last: str, counts: dict[str, int]
) -> None:
    waiting_run(reaped, "PodRefused")
    refusal(reaped, "b", last, "2026-01-01T00:00:02Z")
    refusal(reaped, "a", POLICY, "2026-01-01T00:00:01Z")
    refusal(reaped, "c", QUOTA if counts else POLICY, "2026-01-01T00:00:00Z")

    assert reaped.reap(unstartable=0) == counts


def test_a_run_that_was_refused_once_but_has_a_pod_now_is_left_alone(reaped: ReapedPool) -> None:
    run = waiting_run(reaped, "PodRefused")
    refusal(reaped, "a", POLICY, "2026-01-01T00:00:00Z")
    pod(reaped, "ContainerCreating", "")

    assert reaped.reap(unstartable=0) == {}
    assert reaped.state(run) == ("PodRefused", "as before")


def test_a_run_without_events_or_with_two_jobs_is_left_alone(reaped: ReapedPool) -> None:
    run = waiting_run(reaped, "PodRefused")

    assert reaped.reap(unstartable=0) == {}
    refusal(reaped, "a", POLICY, "2026-01-01T00:00:00Z")
    reaped.job(run, "two")
    assert reaped.reap(unstartable=0) == {}
    reaped.job(run, "two", BACKOFF)
    assert reaped.reap(unstartable=0) == ENDED
