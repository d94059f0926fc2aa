"""Fix findings that have exactly one fix, by edits that keep comments and format."""

import ast
import re
import shutil
import tokenize
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

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


def fix(findings: Iterable[Finding], texts: Mapping[Path, str]) -> int:
    """Make the edits of `findings` in their files, and return how many findings had some.

    `texts` are the texts that the findings are about. Raises PlatformError for a file that cannot
    be written or has changed since.
    """
    fixable = [each for each in findings if each.edits]
    # A file may have been linted under several names, through links.
    files: dict[tuple[int, int], list[Finding]] = defaultdict(list)
    for each in fixable:
        with _refusing(each.path):
            status = each.path.stat()
        files[status.st_dev, status.st_ino].append(each)
    for own in files.values():
        names = {each.path for each in own}
        _edit(names, {texts[name] for name in names}, {edit for each in own for edit in each.edits})
    return len(fixable)


def _edit(names: Collection[Path], linted: Collection[str], edits: Iterable[Edit]) -> None:
    """Edit the file that has `names`; each name of a hard link becomes a file of its own."""
    path = min(names)
    with _refusing(path):
        with tokenize.open(path) as file:
            encoding = file.encoding
        # Opened for writing too, to refuse a file that is read-only.
        with path.open("r+", encoding=encoding, newline="") as file:
            text = file.read()
    if {_LINE_BREAK.sub("\n", text)} != linted:
        raise _changed(path)
    for target in {name.resolve() for name in names}:
        with _refusing(target):
            _replace(target, _edited(text, edits), encoding)


def _replace(path: Path, text: str, encoding: str) -> None:
    """Write `text` to the file as a whole or not at all."""
    with NamedTemporaryFile(
        "w", encoding=encoding, newline="", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        unfinished = Path(file.name)
        try:
            file.write(text)
            file.close()
            shutil.copymode(path, unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlatformError(
            f"{path} cannot be written: {error.strerror}",
            next_step="make the file and its folder writable, then run the command again",
        ) from error
    except (SyntaxError, UnicodeDecodeError) as error:  # its encoding is another one than before
        raise _changed(path) from error


def _changed(path: Path) -> PlatformError:
    return PlatformError(
        f"{path} has changed since it was linted", next_step="run the command again"
    )


def _edited(text: str, edits: Iterable[Edit]) -> str:
    starts = [0, *(each.end() for each in _LINE_BREAK.finditer(text)), len(text)]
    first = _LINE_BREAK.search(text)
    ending = first[0] if first else "\n"
    for each in sorted(edits, reverse=True):
        start, end = (starts[line - 1] + column - 1 for line, column in (each.start, each.end))
        text = text[:start] + each.text.replace("\n", ending) + text[end:]
    return text
