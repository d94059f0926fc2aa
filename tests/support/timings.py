"""Show how long a run's tests took, according to the report that pytest writes for each lane."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.support.processor_time import CPU_SECONDS

_SHOWN_FROM = 5.0
"""Files that take at least this many seconds have their own line in the table."""
_SLOWEST = 10
EVIDENCE = "evidence"
"""The name of a property of a failed test whose value is shown with its error."""
_EVIDENCE_LINES = (
    25  # of all failed tests, because continuous integration keeps only the last lines
)
_FAILED = {"failure", "error"}


@dataclass(frozen=True)
class Test:
    """One test of a lane; its seconds and CPU-seconds include those of its fixtures."""

    lane: str
    file: str
    name: str
    outcome: str
    seconds: float
    cpu_seconds: float = 0
    why: str = ""
    """The first line of a failed test's error, and the error of the command that it names."""
    evidence: tuple[str, ...] = ()


def read(reports: Mapping[str, Path]) -> list[Test]:
    """Return the tests in the reports of all lanes; a lane without a report has no tests."""
    return [
        Test(
            lane,
            case.attrib["file"],
            case.attrib["name"],
            _outcome(case),
            float(case.attrib["time"]),
            sum(map(float, _properties(case, CPU_SECONDS))),
            _why(case),
            tuple(_properties(case, EVIDENCE)),
        )
        for lane, report in reports.items()
        if report.exists()
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - we have just written it
        if "file" in case.attrib  # an interrupted test has only its duration
    ]


def _properties(case: ET.Element, name: str) -> list[str]:
    """Return the values of the test's properties with this name."""
    return [each.attrib["value"] for each in case.iter("property") if each.attrib["name"] == name]


def _outcome(case: ET.Element) -> str:
    tags = {child.tag for child in case}
    if tags & _FAILED:
        return "failed"
    return "skipped" if "skipped" in tags else "passed"


def _why(case: ET.Element) -> str:
    messages = [child.get("message", "") for child in case if child.tag in _FAILED]
    if not messages:
        return ""
    first, *more = messages[0].splitlines() or [""]
    # A command that failed has printed its progress first.
    return " ".join((first, *[line for line in more if line.startswith("error:")][:1]))


def show(tests: Iterable[Test], steps: Mapping[str, float], console: Console) -> None:
    """Print the seconds of each step and file, the slowest tests, and how many passed."""
    tests = list(tests)
    console.print(_steps(steps))
    console.print(_files(tests))
    slowest = Table(title=f"The {_SLOWEST} slowest tests")
    slowest.add_column("seconds", justify="right")
    slowest.add_column("test", overflow="fold")
    for test in sorted(tests, key=lambda test: -test.seconds)[:_SLOWEST]:
        slowest.add_row(f"{test.seconds:.1f}", escape(f"{test.file}::{test.name}"))
    console.print(slowest)


def failures(tests: Iterable[Test]) -> list[str]:
    """Return a line for each failed test: its lane, file, name and error, followed by evidence."""
    failed = [test for test in tests if test.outcome == "failed"]
    return [
        line
        for test in failed
        for line in (
            f"[{test.lane}] {test.file}::{test.name}: {test.why}",
            *(f"  {each}" for each in test.evidence[: _EVIDENCE_LINES // len(failed)]),
        )
    ]


def summary(tests: Iterable[Test]) -> str:
    """Return the number of tests with each outcome, in the form of pytest's last line."""
    outcomes = Counter(test.outcome for test in tests)
    return ", ".join(f"{outcomes[each]} {each}" for each in ("passed", "failed", "skipped"))


def _steps(steps: Mapping[str, float]) -> Table:
    table = Table(title="Where the time went")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for name, seconds in steps.items():
        table.add_row(name, f"{seconds:.0f}")
    return table


def _files(tests: Iterable[Test]) -> Table:
    files: defaultdict[tuple[str, str], list[Test]] = defaultdict(list)
    for test in tests:
        files[test.lane, test.file].append(test)
    for lane, file in [key for key, each in files.items() if _seconds(each) < _SHOWN_FROM]:
        files[lane, f"files of less than {_SHOWN_FROM:.0f} s"] += files.pop((lane, file))
    table = Table(title="Seconds of the test files; lanes that run together share the processors")
    for column in ("lane", "file"):
        table.add_column(column, overflow="fold")
    for column in ("tests", "seconds", "CPU-s"):
        table.add_column(column, justify="right")
    for (lane, file), each in sorted(files.items(), key=lambda item: -_seconds(item[1])):
        cpu_seconds = sum(test.cpu_seconds for test in each)
        table.add_row(lane, file, str(len(each)), f"{_seconds(each):.0f}", f"{cpu_seconds:.0f}")
    return table


def _seconds(tests: Iterable[Test]) -> float:
    return sum(test.seconds for test in tests)
