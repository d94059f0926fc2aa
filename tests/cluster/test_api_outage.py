"""Runs that are due, starting or under way while the API is away are neither lost nor doubled.

The whole case, 60 runs and 60 seconds, is in bench/burst.py.
"""

from collections import Counter
from collections.abc import Callable

from tests.cluster.burst import burst_without_api
from tests.cluster.deployed import Platform

_RUNS, _AWAY = 12, 20


def test_a_burst_survives_that_the_api_is_away_in_the_middle(
    platform: Platform, record_property: Callable[[str, object], None]
) -> None:
    outcome = burst_without_api(platform.kubectl, _RUNS, _AWAY)

    record_property("burst with the API away", str(outcome))
    assert outcome.states == Counter(Completed=_RUNS), outcome
    assert outcome.starts == outcome.jobs == outcome.ends == Counter({1: _RUNS}), outcome
