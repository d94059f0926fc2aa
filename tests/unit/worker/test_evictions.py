"""Whether a pod caused its own eviction, and how often a run was started."""

import pytest
from prefect.client.schemas.objects import State
from prefect.states import (
    AwaitingConcurrencySlot,
    AwaitingRetry,
    Crashed,
    Late,
    Pending,
    Running,
    Scheduled,
    Submitting,
    Suspended,
)

from prefect_platform.worker.evictions import own_excess, starts

_ATTEMPT: list[State[None]] = [Scheduled(), Pending(), Submitting(), Running()]


@pytest.mark.parametrize(
    "message",
    [
        'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". ',
        'Container prefect-job exceeded its local ephemeral storage limit "1Gi". ',
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
    ],
)
def test_a_pod_that_exceeded_its_own_limit_is_detected_by_the_kubelets_message(
    message: str,
) -> None:
    assert own_excess("Evicted", message)
    assert not own_excess("OOMKilled", message)


@pytest.mark.parametrize(
    "message",
    [
        "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 9Mi. "
        "Container prefect-job was using 2Gi, request is 0, has larger consumption of "
        "ephemeral-storage. ",
        "Pod was rejected: The node had condition: [DiskPressure]. ",
        None,
    ],
)
def test_an_eviction_from_a_node_under_pressure_is_not_the_pods_fault(message: str | None) -> None:
    assert not own_excess("Evicted", message)


@pytest.mark.parametrize(
    ("states", "count"),
    [
        (_ATTEMPT, 1),
        ([*_ATTEMPT, AwaitingRetry(), AwaitingConcurrencySlot(), Pending()], 2),
        ([*_ATTEMPT, AwaitingRetry(), Running(name="Retrying")], 1),  # within the same process
        (
            [Scheduled(), Pending(), Submitting(), Scheduled(), Late(), *_ATTEMPT[1:]],
            1,
        ),  # given back
        ([*_ATTEMPT, Crashed(), *_ATTEMPT], 1),
        ([*_ATTEMPT, Suspended(), *_ATTEMPT], 1),
    ],
)
def test_starts_are_counted_since_the_run_last_ended_or_paused(
    states: list[State[None]], count: int
) -> None:
    assert starts(states) == count
