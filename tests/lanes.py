"""Run all tests in lanes: lanes that can share the machine run together, the others alone.

The cluster lane often waits, so all tests that need only processes run at the same time: first
those that can give way to it, at a low priority, then those whose servers have to answer in time.
Tests of engines and nodes run last, when no other engine is running that could hide what they leave
behind.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect_platform.console import out
from tests.support import timings, turns
from tests.support.requirements import makes_clusters
from tests.support.supervision import Command, Ended, run_together

_PYTHON = Path(sys.executable)
_INTERRUPTED = 130  # the exit code that a shell reports after Ctrl-C


@dataclass(frozen=True)
class Lane:
    """Folders of tests that one pytest process runs, or one process for each processor."""

    name: str
    folders: tuple[str, ...]
    parallel: bool = False
    low_priority: bool = False
    """Whether the lane gives way to the lane that runs at the same time."""
    after: str | None = None
    """The name of the lane of the same stage that has to pass before this one starts."""

    def command(self, report: Path, *, whole: bool) -> Command:
        """Return the command that runs the lane and writes pytest's report to `report`."""
        argv = [
            *(str(_PYTHON), "-m", "pytest", f"--junitxml={report}", "-o", "junit_family=xunit1"),
            *(() if whole else ("-m", "not whole")),
            *(("--numprocesses=auto", "--dist=loadfile") if self.parallel else ("--verbose",)),
            *self.folders,
        ]
        return Command(self.name, argv, low_priority=self.low_priority, after=self.after)


PROCESSES = Lane(
    "processes",
    (
        *("tests/unit", "tests/render", "tests/terraform"),
        *("tests/integration/configuration", "tests/integration/deploy"),
        "tests/integration/reaper",
    ),
    parallel=True,
    low_priority=True,
)
SERVERS = Lane(
    "servers",
    (
        *("tests/integration/flows", "tests/integration/results"),
        *("tests/integration/server", "tests/integration/worker"),
        "tests/integration/run_identity",
    ),
    parallel=True,
    after=PROCESSES.name,
)
CLUSTER = Lane("cluster", ("tests/cluster",))
MACHINE = Lane(
    "machine",
    (
        *("tests/integration/images", "tests/integration/network_policy"),
        *("tests/engine", "tests/lifecycle"),
    ),
)
STAGES = ((CLUSTER, PROCESSES, SERVERS), (MACHINE,))
"""Stages run one after another. The lanes of one stage run at the same time, unless one of them has
to run after another."""


def main() -> int:
    """Run all stages until one fails, print how long they took, and return the exit code."""
    whole = sys.argv[1:] == ["whole"]
    with TemporaryDirectory() as folder:
        os.environ[turns.FOLDER] = folder
        reports = {lane.name: Path(folder, f"{lane.name}.xml") for lane in _lanes()}
        seconds, failed = _run(reports, whole=whole)
        tests = timings.read(reports)
    timings.show(tests, seconds, out)
    if failed:
        out.print(
            f"failed: {', '.join(failed)}; the reason is in the lines that start with its name"
        )
        out.print("\n".join(timings.failures(tests)), markup=False, soft_wrap=True)
    out.print(f"tests: {timings.summary(tests)}")
    return 1 if failed else 0


def _run(reports: dict[str, Path], *, whole: bool) -> tuple[dict[str, float], list[str]]:
    """Run the stages; return the seconds that each command took, and the names of failed ones."""
    seconds: dict[str, float] = {}
    for commands in (
        _preparation(),
        *([lane.command(reports[lane.name], whole=whole) for lane in stage] for stage in STAGES),
    ):
        ended: dict[str, Ended] = run_together(commands)
        seconds |= {name: each.seconds for name, each in ended.items()}
        if failed := [name for name, each in ended.items() if each.returncode]:
            return seconds, failed
    return seconds, []


def _lanes() -> Iterator[Lane]:
    for stage in STAGES:
        yield from stage


def _preparation() -> list[Command]:
    images = [str(_PYTHON.with_name("prefect-platform")), "image"]
    return [
        Command("programs", [str(_PYTHON), "-m", "tests.support.programs"]),
        *([Command("images", images)] if makes_clusters() else []),
    ]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
