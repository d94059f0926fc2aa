"""Runs are neither lost nor executed twice during an outage of the API or of the worker.

The full case, with 60 runs and an outage of 60 seconds, is in bench/burst.py.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.burst import Outcome, burst, take_api_away
from tests.cluster.deployed import Platform, pool_concurrency

pytestmark = pytest.mark.timeout(600)  # a burst waits up to 380 s for the end of its runs

_RUNS = 8


@pytest.fixture(autouse=True, scope="module")
def half_of_the_runs_at_once(platform: Platform) -> Iterator[None]:
    """Let half of the runs execute while the other half waits for a slot."""
    with pool_concurrency(platform.kubectl, _RUNS // 2):
        yield


def assert_each_ran_once(outcome: Outcome) -> None:
    assert 0 < outcome.started_before < _RUNS, "the disturbance was not in the middle of the burst"
    assert outcome.states == Counter(Completed=_RUNS), outcome
    assert outcome.starts == outcome.jobs == outcome.ends == Counter({1: _RUNS}), outcome


def test_a_burst_survives_an_outage_of_the_api(
    platform: Platform, record_property: Callable[[str, object], None]
) -> None:
    outcome = burst(platform.kubectl, _RUNS, lambda: take_api_away(platform.kubectl, 20))

    record_property("burst with an outage of the API", str(outcome))
    assert_each_ran_once(outcome)


def test_a_burst_survives_restarts_of_the_worker(
    platform: Platform, record_property: Callable[[str, object], None]
) -> None:
    def replace_worker_thrice() -> None:
        for _ in range(3):
            rollout = ("--namespace=prefect-workers", "rollout")
            platform.kubectl(*rollout, "restart", "deployment")
            platform.kubectl(*rollout, "status", "deployment", "--timeout=180s")

    outcome = burst(platform.kubectl, _RUNS, replace_worker_thrice)

    record_property("burst with restarts of the worker", str(outcome))
    assert_each_ran_once(outcome)
