"""Hooks for all tests: collection, turns on the machine, workers, and recorded figures."""

import gc
from collections.abc import Generator

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]

from tests.support.processor_time import (  # noqa: F401 - pytest calls these hooks
    pytest_runtest_setup,
    pytest_runtest_teardown,
)
from tests.support.requirements import (  # noqa: F401 - pytest calls these hooks
    pytest_make_collect_report,
    pytest_runtest_makereport,
)
from tests.support.scheduling import LoadFolderScheduling
from tests.support.turns import turn


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import all tests without garbage collection, which would take a quarter of the time.

    What they import lives until the end of the run, so no later collection has to look at it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test with the marker `alone` only while no other lane runs a test."""
    with turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_xdist_make_scheduler(
    config: pytest.Config, log: Producer
) -> LoadFolderScheduling | None:
    """Decide which worker runs a test, if the tests are distributed by file."""
    return LoadFolderScheduling(config, log) if config.option.dist == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests recorded with `record_property`, below the name of each test."""
    ended: list[pytest.TestReport] = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and report.user_properties
    ]
    if ended:
        terminalreporter.section("figures")
    for report in ended:
        terminalreporter.write_line(report.nodeid)
        for name, value in report.user_properties:
            terminalreporter.write_line(f"  {name}: {value}")
