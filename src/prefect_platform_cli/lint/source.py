"""Find Python files and parse them, without ever running them."""

import ast
import os
import sys
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LARGEST = 1_000_000  # bytes; larger files are generated, and take seconds to parse
DEPLOYMENTS = "prefect.yaml"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

Node = ast.expr | ast.stmt | ast.arg | ast.keyword


class Unreadable(Exception):  # noqa: N818 - it reports a place, like a finding
    """A path that cannot be linted; the text is one line with the path and the reason."""

    def __init__(self, path: Path, reason: str, line: int | None = None) -> None:
        at = path if line is None else f"{path}:{line}"
        super().__init__(" ".join(f"{at}: {reason}".split()))


@dataclass(frozen=True, eq=False)
class Source:
    """A file of Python: its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @cached_property
    def lines(self) -> list[str]:
        # Not splitlines: to Python, a form feed or a Unicode line separator does not end a line.
        return self.text.split("\n")

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Return every node of the tree; to walk over it takes longer than to parse it."""
        return list(ast.walk(self.tree))

    def column(self, node: Node) -> int:
        """Return the column of `node` in characters from 1; `ast` counts bytes from 0."""
        return self.start(node)[1]

    def start(self, node: Node) -> tuple[int, int]:
        """Return the line and the column of the first character of `node`."""
        return self._place(node.lineno, node.col_offset)

    def end(self, node: ast.expr) -> tuple[int, int]:
        """Return the line and the column behind the last character of `node`."""
        return self._place(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def _place(self, line: int, offset: int) -> tuple[int, int]:
        before = self.lines[line - 1].encode()[:offset]
        return line, len(before.decode(errors="replace")) + 1


def read(path: Path) -> Source:
    """Return the parsed file; raises Unreadable when it is not Python that this version parses."""
    try:
        if path.stat().st_size > LARGEST:
            raise Unreadable(
                path, f"is larger than {LARGEST // 1000} kB: split it, or leave it out"
            )
        with tokenize.open(path) as file:
            text = file.read()
    except OSError as error:
        raise Unreadable(path, f"cannot be read: {error.strerror}") from error
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise Unreadable(path, "is not text in the encoding it declares, or UTF-8") from error
    return parse(path, text)


def parse(path: Path, text: str) -> Source:
    """Return `text` as the parsed content of `path`; raises Unreadable like `read`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Source(path, text, ast.parse(text))
    except SyntaxError as error:
        reason = f"does not parse as Python {PYTHON}: {error.msg}"
        raise Unreadable(path, reason, error.lineno) from error
    except ValueError as error:
        raise Unreadable(path, f"does not parse as Python {PYTHON}: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise too_deep(path) from error


def too_deep(path: Path) -> Unreadable:
    """Return the error for a file whose expressions are nested beyond Python's own limit."""
    return Unreadable(path, "is nested too deeply: split its longest expression")


def find(paths: Sequence[Path]) -> tuple[list[Path], list[Unreadable]]:
    """Return the files to lint in and below `paths`, and the paths that cannot be linted.

    Hidden folders, byte code and virtual environments are left out, and links to folders are not
    followed.
    """
    found: dict[Path, Path] = {}
    unreadable: list[Unreadable] = []
    for path in paths:
        try:
            files = sorted(_below(path)) if path.is_dir() else [path.resolve(strict=True) and path]
        except (OSError, RuntimeError) as error:  # Python 3.11 raises RuntimeError for a loop
            reason = getattr(error, "strerror", None) or "it is a symbolic link to itself"
            unreadable.append(Unreadable(path, f"cannot be read: {reason}"))
            continue
        if not files:
            unreadable.append(Unreadable(path, f"has neither Python files nor a {DEPLOYMENTS}"))
        for file in files:
            found.setdefault(file.absolute(), file)
    return list(found.values()), unreadable


def _below(folder: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(folder):
        folders[:] = [
            each
            for each in folders
            if not each.startswith(".")
            and each != "__pycache__"
            and not Path(name, each, "pyvenv.cfg").exists()
        ]
        yield from (
            Path(name, each) for each in files if each.endswith(".py") or each == DEPLOYMENTS
        )
