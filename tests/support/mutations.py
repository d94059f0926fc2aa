"""Try two mutations of each module of src, one at a time, and show those that no test detects.

They are tried in a copy of the last commit, with the tests that name the module and do not need a
cluster. A module has the same mutations until its source changes.
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
from itertools import accumulate, chain
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory

from rich.table import Table
from rich.text import Text

from prefect_platform.console import out
from prefect_platform_cli.host.paths import REPOSITORY
from tests.lanes import PROCESSES, SERVERS

_PER_MODULE = 2
_WITHIN = 900
"""Seconds for the tests of one mutation; one that makes the tests hang counts as detected."""


@dataclass(frozen=True)
class Mutation:
    """A change to one line of a module: the text before and after it."""

    line: int
    before: str
    after: str
    source: str
    """The source of the module with the mutation."""


def mutations(source: str) -> list[Mutation]:
    """Return up to two mutations of a module, chosen at random with its text as the seed.

    Each one negates a condition, removes a call whose result is not used, or swaps True and False.
    """
    candidates = list(_mutable(ast.parse(source)))
    chosen = random.Random(source).sample(candidates, min(_PER_MODULE, len(candidates)))  # noqa: S311
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


def _mutable(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Yield the expressions that can be mutated, each with a format string for its replacement."""
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


def find_tests(repository: Path, module: Path) -> list[Path]:
    """Return the tests that need no cluster and name a module, the fastest folder first.

    A plugin can also be named by its entry point. If a conftest.py names the module, all tests in
    its folder count. If no file names the module, the tests of its package are returned: those in a
    folder with the package's name.
    """
    package, name = module.relative_to("src").with_suffix("").parts[:-1], module.stem
    dotted = re.escape(".".join(package))
    plugin = rf"|\b{name.replace('_', '-')}\b" if package[-1] == "plugins" else ""
    names = re.compile(rf"{dotted}\.{name}\b|from {dotted} import [^\n]*\b{name}\b{plugin}")
    files = [
        file
        for folder in (*PROCESSES.folders, *SERVERS.folders)
        for file in sorted((repository / folder).rglob("*.py"))
    ]
    naming = [_tests(file) for file in files if names.search(file.read_text())]
    of_package = (
        [_tests(file) for file in files if part in file.parent.parts] for part in reversed(package)
    )
    found = next(filter(any, (naming, *of_package)), [])
    return [*dict.fromkeys(chain.from_iterable(found))]


def _tests(file: Path) -> list[Path]:
    """Return a file of tests, or those beside a conftest.py; none for another file."""
    if file.name == "conftest.py":
        return sorted(file.parent.glob("test_*.py"))
    return [file] if file.name.startswith("test_") else []


def survives(repository: Path, module: Path, mutation: Mutation, tests: Sequence[Path]) -> bool:
    """Return whether a mutation survives: the tests pass with it, or there are no tests."""
    if not tests:
        return True
    file = repository / module
    original = file.read_text()
    file.write_text(mutation.source)
    process = subprocess.Popen(
        [
            *(f"{repository / '.venv/bin/python'}", "-m", "pytest"),
            *("--quiet", "--exitfirst", "-p", "no:cacheprovider", *map(str, tests)),
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
            os.killpg(process.pid, SIGKILL)  # including the servers of tests that hang
        file.write_text(original)


def _tried(repository: Path, names: Sequence[str]) -> Iterator[tuple[Path, Mutation, bool]]:
    """Yield the modules with one of `names` in their path, each mutation, and its survival."""
    for file in sorted((repository / "src").rglob("*.py")):
        module = file.relative_to(repository)
        if names and not any(name in str(module) for name in names):
            continue
        tests = find_tests(repository, module)
        for mutation in mutations(file.read_text()):
            yield module, mutation, survives(repository, module, mutation, tests)


def main(names: Sequence[str]) -> None:
    """Try the modules with one of `names` in their path, by default all; print the survivors."""
    survivors = Table(title="Mutations that no test without a cluster detects")
    for column in ("module", "line", "before", "after"):
        survivors.add_column(column, overflow="fold")
    outcomes = []
    with TemporaryDirectory() as folder:
        copy = Path(folder, "repository")
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, copy], check=True)
        # Servers that tests start do not inherit PYTHONPATH, so the copy needs its own environment.
        subprocess.run(["sh", "scripts/create-venv"], cwd=copy, check=True)
        for module, mutation, survived in _tried(copy, names):
            outcomes.append(survived)
            what = f"{module}:{mutation.line}: {mutation.before} -> {mutation.after}"
            out.print(f"{'survives' if survived else 'detected'} {what}", markup=False)
            if survived:
                row = (f"{module}", f"{mutation.line}", mutation.before, mutation.after)
                survivors.add_row(*map(Text, row))
    out.print(survivors)
    out.print(f"{len(outcomes)} mutations tried, {sum(outcomes)} not detected")


if __name__ == "__main__":
    main(sys.argv[1:])
