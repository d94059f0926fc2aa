"""The report at the end of a run shows how long its tests took and how they ended."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from prefect_platform_cli.host.paths import REPOSITORY
from tests.support import timings

_TESTS = """
import subprocess
import sys

import pytest

def test_passes(): pass
@pytest.fixture
def computed():
    yield
    compute = "import time\\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", compute])
def test_computes(computed): pass
def test_fails(): assert False
@pytest.mark.skip
def test_is_skipped(): pass
@pytest.fixture
def broken(): raise ValueError
def test_has_a_broken_fixture(broken): pass
def test_is_interrupted(): raise KeyboardInterrupt
"""
# As tests/cluster does it, where the evidence is gathered when a test has failed.
_CONFTEST = """
import pytest
from tests.support.processor_time import pytest_runtest_setup, pytest_runtest_teardown
from tests.support.timings import EVIDENCE

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.user_properties.extend((EVIDENCE, f"{item.name} {number}") for number in range(40))
    return report
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pytest's report of a file with one test of each outcome, the last one interrupted."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "test_each.py").write_text(_TESTS)
    (folder / "conftest.py").write_text(_CONFTEST)
    written = folder / "report.xml"
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."),
            *(f"--junitxml={written}", "-o", "junit_family=xunit1", "test_each.py"),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # they are not needed, but slow
        },
        capture_output=True,
        check=False,
    )
    return written


def test_the_summary_counts_every_outcome(report: Path) -> None:
    tests = timings.read({"some": report, "never ran": report.with_name("missing.xml")})

    assert timings.summary(tests) == "2 passed, 2 failed, 1 skipped"
    assert {(test.lane, test.file) for test in tests} == {("some", "test_each.py")}


def test_a_failure_is_listed_with_its_test_and_the_first_line_of_its_error(report: Path) -> None:
    lines = timings.failures(timings.read({"some": report}))
    fails, broken = (line for line in lines if line.startswith("["))

    assert fails == "[some] test_each.py::test_fails: assert False"
    assert broken.startswith("[some] test_each.py::test_has_a_broken_fixture: ")
    assert "ValueError" in broken


def test_all_failed_tests_share_the_lines_of_evidence_after_their_errors(report: Path) -> None:
    lines = timings.failures(timings.read({"some": report}))

    assert [line.partition(": ")[0] for line in lines] == [
        "[some] test_each.py::test_fails",
        *(f"  test_fails {number}" for number in range(12)),
        "[some] test_each.py::test_has_a_broken_fixture",
        *(f"  test_has_a_broken_fixture {number}" for number in range(12)),
    ]


def test_the_processor_time_of_a_test_includes_its_fixtures_and_their_processes(
    report: Path,
) -> None:
    used = {test.name: test.cpu_seconds for test in timings.read({"some": report})}

    assert used["test_computes"] > used["test_passes"] + 0.1


def test_a_failed_command_is_listed_with_its_error(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    message = "AssertionError: Find an engine&#10;error: the disk is full&#10;next: make room"
    report.write_text(
        f'<testcase file="a.py" name="test_a" time="1"><failure message="{message}" /></testcase>'
    )

    (line,) = timings.failures(timings.read({"some": report}))

    assert line == ("[some] a.py::test_a: AssertionError: Find an engine error: the disk is full")


def test_files_and_tests_are_listed_with_their_seconds() -> None:
    tests = [
        timings.Test("fast", "tests/a.py", "test_one[case]", "passed", 60.0, 11.0),
        timings.Test("fast", "tests/a.py", "test_two", "passed", 7.5, 1.6),
        timings.Test("fast", "tests/b.py", "test_three", "passed", 1.0),
        timings.Test("fast", "tests/c.py", "test_four", "passed", 2.0),
    ]
    printed = io.StringIO()

    timings.show(tests, {"programs": 3.2, "fast": 70.0}, Console(width=120, file=printed))

    shown = printed.getvalue().splitlines()
    lines = [re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in shown]
    assert ["programs", "3"] in lines
    assert ["fast", "tests/a.py", "2", "68", "13"] in lines
    assert ["fast", "files of less than 5 s", "2", "3", "0"] in lines
    assert lines.index(["60.0", "tests/a.py::test_one[case]"]) < lines.index(
        ["7.5", "tests/a.py::test_two"]
    )
