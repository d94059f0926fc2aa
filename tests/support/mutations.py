"""Try two mutations of each module of src, one at a time, and show those that no test notices.

They are tried in a copy of the last commit, with the tests that name the module and need only
processes. A module keeps its mutations until it changes.
"""

import ast
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory

from rich.table import Table
from rich.text import Text

from prefect_platform.console import out
from prefect_platform_cli.host.paths import REPOSITORY
from tests.lanes import PROCESSES, SERVERS

_A_MODULE = 2
_WITHIN = 900
"""Seconds for the tests of one mutation; one that makes them hang is noticed."""


@dataclass(frozen=True)
class Mutation:
    """A line of a module, what stands there, and what is put in its place."""

    line: int
    before: str
    after: str
    source: str
    """The module with the mutation."""


def mutations(source: str) -> list[Mutation]:
    """Return up to two mutations of a module, chosen at random with its text as the seed.

    Each one negates a condition, removes a call whose result is not used, or swaps True and False.
    """
    offered = list(_offered(ast.parse(source)))
    chosen = random.Random(source).sample(offered, min(_A_MODULE, len(offered)))  # noqa: S311
    encoded = source.encode()
    starts = [0, *accumulate(map(len, encoded.splitlines(keepends=True)))]
    found = []
    for node, replacement in chosen:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        before = encoded[start:end].decode()
        after = replacement.format(before)
        changed = (encoded[:start] + after.encode() + encoded[end:]).decode()
        found.append(Mutation(node.lineno, before, after, changed))
    return found


def _offered(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Yield expressions, each with the format of what to put in its place."""
    for node in ast.walk(tree):
        match node:
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                yield test, "(not ({}))"
            case ast.comprehension(ifs=conditions):
                for condition in conditions:
                    yield condition, "(not ({}))"
            case ast.Expr(value=ast.Call() as call):
                yield call, "None"
            case ast.Constant(value=bool(value)):
                yield node, str(not value)


def naming(repository: Path, module: Path) -> list[Path]:
    """Return the files of tests without a cluster that name a module, the quickest folder first."""
    package, name = module.relative_to("src").with_suffix("").parts[:-1], module.stem
    dotted = re.escape(".".join(package))
    names = re.compile(rf"{dotted}\.{name}\b|from {dotted} import [^\n]*\b{name}\b")
    return [
        file
        for folder in (*PROCESSES.folders, *SERVERS.folders)
        for file in sorted((repository / folder).rglob("test_*.py"))
        if names.search(file.read_text())
    ]


def survives(repository: Path, module: Path, mutation: Mutation, tests: Sequence[Path]) -> bool:
    """Return whether `tests` pass with the mutation in the module; without any, it survives."""
    if not tests:
        return True
    file = repository / module
    original = file.read_text()
    file.write_text(mutation.source)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "--quiet", "--exitfirst", "-p", "no:cacheprovider"),
            *tests,
        ],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": f"{repository / 'src'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(_WITHIN) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)  # with the servers of tests that hang
        file.write_text(original)


def _tried(repository: Path, names: Sequence[str]) -> Iterator[tuple[Path, Mutation, bool]]:
    """Yield each module whose path holds one of `names`, its mutation, and whether it survives."""
    for file in sorted((repository / "src").rglob("*.py")):
        module = file.relative_to(repository)
        if names and not any(name in str(module) for name in names):
            continue
        tests = naming(repository, module)
        for mutation in mutations(file.read_text()):
            yield module, mutation, survives(repository, module, mutation, tests)


def main(names: Sequence[str]) -> None:
    """Try the modules whose path holds one of `names`, all without any; print what survives."""
    survivors = Table(title="Mutations that no test without a cluster notices")
    for column in ("module", "line", "before", "after"):
        survivors.add_column(column, overflow="fold")
    outcomes = []
    with TemporaryDirectory() as folder:
        copy = Path(folder, "repository")
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, copy], check=True)
        (copy / ".venv").symlink_to(REPOSITORY / ".venv")
        for module, mutation, survived in _tried(copy, names):
            outcomes.append(survived)
            what = f"{module}:{mutation.line}: {mutation.before} -> {mutation.after}"
            out.print(f"{'survives' if survived else 'noticed'} {what}", markup=False)
            if survived:
                row = (f"{module}", f"{mutation.line}", mutation.before, mutation.after)
                survivors.add_row(*map(Text, row))
    out.print(survivors)
    out.print(f"{len(outcomes)} mutations tried, {sum(outcomes)} not noticed")


if __name__ == "__main__":
    main(sys.argv[1:])
