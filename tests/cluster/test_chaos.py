"""Runs are neither lost nor doubled when a part of the platform dies, and each limit is kept.

docs/operations/chaos.md says what the histories of the trials are judged by.
"""

from collections.abc import Callable

import pytest

from tests.chaos.faults import FAULTS, chosen

pytestmark = pytest.mark.timeout(1200)  # the longest fault lasts six minutes

_ALWAYS = ("api-killed", "database-killed")
_TOGETHER = ("api-killed+database-killed",)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _ALWAYS else pytest.mark.whole)
        for name in (*FAULTS, *_TOGETHER)
        if not any(fault.ha or fault.nodes for fault in chosen(name))
    ],
)
def test_every_run_ends_exactly_once_as_it_has_to_in_spite_of(
    violations: Callable[[str], tuple[str, ...]], name: str
) -> None:
    assert violations(name) == ()
