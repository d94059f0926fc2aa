"""Count the faults that the linter finds and its false alarms by rule, and time 1,000 files.

`python -m bench.lint` lints the faults that the linter's tests plant, the correct counterparts of
these faults, and the modules of Prefect and its integrations. It then runs `prefect-platform lint`
on 1,000 of these modules. For comparison, another process only parses the same files. For a short
run, use `--rounds 1`. `--write FILE` also writes the table of the rules, in Markdown.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from prefect_platform.console import step
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.lint.catalogue import RULES
from prefect_platform_cli.lint.linter import lint
from tests.unit.lint import test_examples, test_our_flows, test_precision, test_upstream_flows

FILES = 1000
HEADER = ("rule", "found of planted", "false alarms", "false alarms upstream")
_PARSE = "import ast, sys\nfor each in sys.argv[1:]:\n    ast.parse(open(each, 'rb').read())"
COMMANDS = {
    "prefect-platform lint": [str(Path(sys.executable).with_name("prefect-platform")), "lint"],
    "ast.parse": [sys.executable, "-c", _PARSE],
}
Case = Callable[[Path], set[str]]
"""Writes files to a folder and returns the rules that they break."""


def _example(folder: Path, language: str, text: str) -> set[str]:
    test_examples.write(folder, language, text)
    return test_examples.found_in(folder)


def _text(folder: Path, text: str) -> set[str]:
    return test_precision.found(text, folder)


def _ours(folder: Path, file: str = "prefect.yaml", before: str = "", after: str = "") -> set[str]:
    shutil.copytree(REPOSITORY / "flows", folder / "flows")
    shutil.copy(REPOSITORY / "prefect.yaml", folder)
    text = (folder / file).read_text()
    (folder / file).write_text(text.replace(before, after) if before else text)
    return test_examples.found_in(folder)


def _examples(wanted: str) -> Iterator[tuple[str, Case]]:
    for rule in RULES:
        for kind, language, text in test_examples.examples(rule):
            if kind == wanted:
                yield rule, partial(_example, language=language, text=text)


def faults() -> Iterator[tuple[set[str], Case]]:
    """Yield each planted fault with the rules that it breaks."""
    for rule, example in _examples("Bad"):
        yield {rule}, example
    for name, text in test_precision.FOUND.items():
        yield {name.partition(" ")[0]}, partial(_text, text=text)
    for text in test_precision.SECRETS.values():
        yield {"PF005"}, partial(_text, text=text)
    for file, before, after, rules in test_our_flows.MUTATIONS.values():
        yield rules, partial(_ours, file=file, before=before, after=after)


def correct() -> Iterator[Case]:
    """Yield the cases that break no rule."""
    yield from (example for _, example in _examples("Good"))
    for text in (*test_precision.NOT_FOUND.values(), *test_precision.NO_SECRETS):
        yield partial(_text, text=text)
    yield _ours


def broken(case: Case) -> set[str]:
    """Return the rules that a case breaks."""
    with tempfile.TemporaryDirectory() as folder:
        return case(Path(folder))


def upstream(flows: Sequence[Path]) -> tuple[Counter[str], Counter[str]]:
    """Return the findings in upstream's modules with flows or tasks, and those that are false.

    Only network calls of tasks without retries are true: the decorator of the task shows them.
    """
    true = {
        (path, each.lineno)
        for path in flows
        for each in test_upstream_flows.decorated(path)
        if "retries" not in ast.unparse(each)
    }
    found = lint(flows).findings
    false = [f for f in found if f.rule.id != "PF003" or (f.path, f.line) not in true]
    return Counter(f.rule.id for f in found), Counter(f.rule.id for f in false)


def timed(command: Sequence[str], files: Sequence[Path]) -> tuple[float, float]:
    """Return the CPU seconds and the seconds of a command with `files` as its arguments."""
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, *map(str, files)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    used = os.wait4(process.pid, 0)[2]
    return used.ru_utime + used.ru_stime, time.monotonic() - began


def counted(flows: Sequence[Path]) -> list[tuple[str, ...]]:
    """Return the rows of the table: one for each rule, and their sum."""
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for rules, case in faults():
        planted.update(rules)
        found.update(rules & broken(case))
    alarms = Counter(rule for case in correct() for rule in broken(case))
    findings, false = upstream(flows)

    def row(name: str, rules: Sequence[str]) -> tuple[str, ...]:
        wrong, of = (sum(counter[rule] for rule in rules) for counter in (false, findings))
        hits, faults = (sum(counter[rule] for rule in rules) for counter in (found, planted))
        return name, f"{hits} of {faults}", str(sum(alarms[r] for r in rules)), f"{wrong} of {of}"

    return [*(row(rule, [rule]) for rule in RULES), row("all", list(RULES))]


def speed(files: Sequence[Path], rounds: int) -> Table:
    """Return the table of how long each command takes for `files`."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(rounds):
        for name, command in COMMANDS.items():
            with step(f"round {number + 1}: {name}"):
                measured[name].append(timed(command, files))
    table = Table(f"{len(files)} files", "CPU seconds", "seconds", "CPU, ast.parse = 1")
    parse = median(cpu for cpu, _ in measured["ast.parse"])
    for name, runs in measured.items():
        cpu, seconds = (median(each) for each in zip(*runs, strict=True))
        table.add_row(name, f"{cpu:.1f}", f"{seconds:.1f}", f"{cpu / parse:.1f}")
    return table


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return the table of the rules as Markdown."""
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count and measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        first, second = Path(directory, "first"), Path(directory, "second")
        # The packages have fewer modules than 1,000, so some are linted twice.
        files = [*test_upstream_flows.modules(first), *test_upstream_flows.modules(second)]
        flows = [path for path in files if test_upstream_flows.decorated(path)]
        rows = counted([path for path in flows if first in path.parents])
        others = {path for path in files if first in path.parents}.difference(flows)
        table = Table(*HEADER)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        found = Counter(each.rule.id for each in lint(sorted(others)).findings)
        print(f"upstream's {len(others)} modules without flows and tasks: {dict(found)}")
        Console().print(speed(files[:FILES], given.rounds))
    if given.write:
        given.write.write_text(markdown(rows))


if __name__ == "__main__":
    main()
