"""Measure the seconds from an edit of a flow to the line that it prints, in the log of a new run.

`python -m bench.inner_loop` needs the cluster CLUSTER_NAME that `make deploy-cluster` has created.
In each round, a copy of the repository is edited and run by `prefect-platform run`, then run again
without an edit. With `--deploy`, each round also deploys another edit by `prefect-platform deploy`
and runs it. The results are the medians, and their ratio to a run without an edit.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.support.edited_repository import copy_repository, edit, start_in

_RUN = ("run", "etl-daily/daily", "--param", "date=2013-05-01")
AGAIN, EDITED, DEPLOYED = "run again, without an edit", "edit, run", "edit, deploy, run"


def until_line(repository: Path, word: str) -> float:
    """Run the flow to its end; return the seconds until its log has `word`.

    Raises RuntimeError, with what was printed, if the run or its line is missing.
    """
    began, seconds, printed = time.monotonic(), None, ""
    with start_in(repository, *_RUN) as command:
        for line in command.stdout or ():
            printed += line
            if seconds is None and line.rstrip().endswith(f" {word}"):
                seconds = time.monotonic() - began
    if command.returncode or seconds is None:
        raise RuntimeError(printed)
    return seconds


def deploy(repository: Path) -> float:
    """Deploy the copy, and return the seconds that it took; raises RuntimeError if it fails."""
    began = time.monotonic()
    with start_in(repository, "deploy") as command:
        printed, _ = command.communicate()
    if command.returncode:
        raise RuntimeError(printed)
    return time.monotonic() - began


def measure(rounds: int, *, deploys: bool) -> dict[str, list[float]]:
    """Return the seconds of each round by what was measured."""
    measured: dict[str, list[float]] = {AGAIN: [], EDITED: []}
    with tempfile.TemporaryDirectory() as folder:
        repository = copy_repository(Path(folder))
        for number in range(rounds):
            word = f"round-{number}-{time.time_ns()}"
            edit(repository, word)
            measured[EDITED].append(until_line(repository, word))
            measured[AGAIN].append(until_line(repository, word))
            if deploys:
                edit(repository, f"deployed-{word}")
                total = deploy(repository) + until_line(repository, f"deployed-{word}")
                measured.setdefault(DEPLOYED, []).append(total)
    return measured


def main() -> None:
    """Measure, and print the medians, the ranges, the ratios and the load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deploy", action="store_true", help="measure deploys, too")
    given = parser.parse_args()
    before = os.getloadavg()
    measured = measure(given.rounds, deploys=given.deploy)
    table = Table("measured", "seconds (range)", "ratio")
    for name, seconds in measured.items():
        spread = f"{median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f})"
        table.add_row(name, spread, f"{median(seconds) / median(measured[AGAIN]):.2f}")
    Console().print(table)
    print(f"load of the last minute: {before[0]:.1f} before, {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
