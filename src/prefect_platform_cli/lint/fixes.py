"""Fix findings that have exactly one fix, by edits that keep comments and format."""

import ast
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.lint.findings import Edit, Finding
from prefect_platform_cli.lint.source import Source

_LINE_BREAK = re.compile(r"\r\n|\r|\n")


def with_argument(source: Source, decorator: ast.expr, argument: str) -> tuple[Edit, ...]:
    """Return the edit that adds a keyword argument, none if that takes more than an insertion."""
    if not isinstance(decorator, ast.Call):
        end = source.end(decorator)
        return (Edit(end, end, f"({argument})"),)
    if decorator.keywords:
        first = min(decorator.keywords, key=lambda each: (each.lineno, each.col_offset))
        line, column = start = source.start(first)
        before = source.lines[line - 1][: column - 1]
        separator = ", " if before.strip() else f",\n{before}"
        return (Edit(start, start, argument + separator),)
    if decorator.args:
        return ()
    line, column = source.end(decorator)
    parenthesis = (line, column - 1)
    return (Edit(parenthesis, parenthesis, argument),)


def fix(findings: Iterable[Finding]) -> int:
    """Make the edits of `findings` in their files, and return how many findings had some.

    Raises PlatformError for a file that cannot be written.
    """
    edits: dict[Path, set[Edit]] = defaultdict(set)
    fixed = 0
    for each in findings:
        edits[each.path].update(each.edits)
        fixed += bool(each.edits)
    for path, own in edits.items():
        if own:
            _edit(path, own)
    return fixed


def _edit(path: Path, edits: Iterable[Edit]) -> None:
    with tokenize.open(path) as file:
        encoding = file.encoding
    try:
        with path.open(encoding=encoding, newline="") as file:
            text = file.read()
        with path.open("w", encoding=encoding, newline="") as file:
            file.write(_edited(text, edits))
    except OSError as error:
        raise PlatformError(
            f"{path} cannot be written: {error.strerror}",
            next_step="correct its permissions, then run the command again",
        ) from error


def _edited(text: str, edits: Iterable[Edit]) -> str:
    starts = [0, *(each.end() for each in _LINE_BREAK.finditer(text)), len(text)]
    first = _LINE_BREAK.search(text)
    ending = first[0] if first else "\n"
    for each in sorted(edits, reverse=True):
        start, end = (starts[line - 1] + column - 1 for line, column in (each.start, each.end))
        text = text[:start] + each.text.replace("\n", ending) + text[end:]
    return text
