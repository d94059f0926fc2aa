"""Runs that are due, starting or under way are neither lost nor doubled, whoever is away.

The whole case, 60 runs and 60 seconds, is in bench/burst.py.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.burst import Outcome, burst, take_api_away
from tests.cluster.deployed import Platform, at_a_time

pytestmark = pytest.mark.timeout(600)  # a burst whose runs do not end is given 380 s

_RUNS = 8


@pytest.fixture(autouse=True, scope="module")
def half_at_a_time(platform: Platform) -> Iterator[None]:
    """Have half of the runs under way while the other half is due."""
    with at_a_time(platform.kubectl, _RUNS // 2):
        yield


def assert_each_ran_once(outcome: Outcome) -> None:
    assert 0 < outcome.begun_before < _RUNS, "nothing happened in the middle of the burst"
    assert outcome.states == Counter(Completed=_RUNS), outcome
    assert outcome.starts == outcome.jobs == outcome.ends == Counter({1: _RUNS}), outcome


def test_a_burst_survives_that_the_api_is_away_in_the_middle(
    platform: Platform, record_property: Callable[[str, object], None]
) -> None:
    outcome = burst(platform.kubectl, _RUNS, lambda: take_api_away(platform.kubectl, 20))

    record_property("burst with the API away", str(outcome))
    assert_each_ran_once(outcome)


def test_a_burst_survives_workers_that_come_and_go(
    platform: Platform, record_property: Callable[[str, object], None]
) -> None:
    def replace_worker_thrice() -> None:
        for _ in range(3):
            rollout = ("--namespace=prefect-workers", "rollout")
            platform.kubectl(*rollout, "restart", "deployment")
            platform.kubectl(*rollout, "status", "deployment", "--timeout=180s")

    outcome = burst(platform.kubectl, _RUNS, replace_worker_thrice)

    record_property("burst with workers that come and go", str(outcome))
    assert_each_ran_once(outcome)
