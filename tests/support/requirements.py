"""What a test requires of the machine, and what happens if a requirement is not met.

On a developer's machine the test is skipped with the reason. In continuous integration, where the
variable CI is set, it fails instead, so that no promise of the suite goes unchecked.
"""

import os
import shutil
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NoReturn

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host import debian

_INAPPLICABLE = "does not apply to this machine: "


def does_not_apply(reason: str) -> NoReturn:
    """Skip the running test, also in continuous integration: no installation would help."""
    pytest.skip(f"{_INAPPLICABLE}{reason}")


def require_packages(*names: str) -> None:
    """Install those of the Debian packages `names` that are missing.

    If that is impossible, skip the running test and show the command that installs them.
    """
    try:
        debian.ensure_packages(*names)
    except PlatformError as error:
        pytest.skip(str(error))


def root_on_debian() -> bool:
    """Return whether networks, private engines and nodes can be created on this machine."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def makes_clusters() -> bool:
    """Return whether clusters can be created on this machine."""
    return shutil.which("docker") is not None or root_on_debian()


def skip_without_root(items: Iterable[pytest.Item], folder: Path) -> None:
    """Skip the tests in `folder` if networks, engines and nodes cannot be created here."""
    if root_on_debian():
        return
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs root on Debian or Ubuntu"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that was skipped in continuous integration."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that was skipped in continuous integration."""
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure is also reported as skipped, but its longrepr is not a tuple.
    if not os.environ.get("CI") or not report.skipped or not isinstance(report.longrepr, tuple):
        return
    reason = report.longrepr[2]
    if _INAPPLICABLE not in reason:
        report.outcome = "failed"
        report.longrepr = (
            f"{reason}\nCI is set, where a test that is skipped counts as failed.\n"
            "Next: provide what is missing, or run without CI"
        )
