"""Record how much processor time each test took, with the processes that it started."""

import resource
from collections.abc import Generator

import pytest

CPU_SECONDS = "CPU-seconds"
"""The name of the property of a test in pytest's report."""
_STARTED_AT = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Remember what was used before the test's first fixture."""
    item.stash[_STARTED_AT] = _used()
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Record what was used until the end of the test's last fixture."""
    try:
        yield
    finally:
        item.user_properties.append((CPU_SECONDS, f"{_used() - item.stash[_STARTED_AT]:.2f}"))


def _used() -> float:
    """Return the CPU-seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
