"""Read YAML files together with the line of every key and item, for error messages."""

import difflib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from prefect_platform.errors import PlatformError

Step = str | int


@dataclass(frozen=True)
class Location:
    """A line of a file, counted from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """A problem in a file: where it is, its cause, and what to write instead."""

    at: Location
    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.at}: {self.cause}; {self.fix}"


class ConfigurationError(PlatformError):
    """All problems in the files at once, sorted by file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda each: (str(each.at.file), each.at.line))
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(
            f"the configuration is not valid:\n{lines}",
            next_step="correct the lines above; `prefect-platform validate` checks them again",
        )


@dataclass(frozen=True)
class Source:
    """The content of a YAML file as plain data, and the line of each part by its steps."""

    path: Path
    data: Any
    lines: dict[tuple[Step, ...], int]

    def at(self, *steps: Step) -> Location:
        """Return the line of the key or item at the end of `steps`, or of its nearest parent."""
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return Location(self.path, self.lines.get(steps, 1))

    def problems(self, error: ValidationError, *within: Step) -> list[Problem]:
        """Return pydantic's errors with their lines in the file.

        `within` are the steps to the validated part of the file.
        """
        return [
            self._refusal(each["type"], each["msg"], (*within, *each["loc"]))
            for each in error.errors(include_url=False)
        ]

    def no_mapping(self, *steps: Step) -> Problem:
        """Return the problem of a value that should be a mapping."""
        cause = f"{steps[-1] if steps else 'the file'} is not a mapping"
        return Problem(self.at(*steps), cause, "write `KEY: VALUE` lines")

    def no_name(self, *steps: Step) -> Problem:
        """Return the problem of a name or key that is empty or not text."""
        at = self.at(*steps[:-1], str(steps[-1]))
        return Problem(at, f"`{steps[-1]}` is not a name", "write text in quotes")

    def unknown_key(self, *steps: Step, known: Iterable[str] = ()) -> Problem:
        """Return the problem of a key that is not one of the `known` ones."""
        similar = difflib.get_close_matches(str(steps[-1]), known, 1)
        fix = f"did you mean {similar[0]}?" if similar else "remove it, or correct it"
        return Problem(self.at(*self._known(steps)), f"there is no key {steps[-1]} here", fix)

    def _refusal(self, kind: str, message: str, steps: tuple[Step, ...]) -> Problem:
        known = self._known(steps)
        match kind:
            case "extra_forbidden":
                return self.unknown_key(*steps)
            case "string_type" if steps[-1] == "[key]":
                return self.no_name(*known, steps[-2])
            case "model_type" | "dict_type":
                return self.no_mapping(*known)
            case "missing":
                return Problem(self.at(*known), f"the key {steps[-1]} is missing", "add it")
        cause = f"{known[-1] if known else 'the file'}: {message.removeprefix('Value error, ')}"
        return Problem(self.at(*known), cause, "correct it")

    def _known(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Return `steps` without those that pydantic adds for unions."""
        known: tuple[Step, ...] = ()
        for step in steps:
            if (*known, step) in self.lines:
                known = (*known, step)
        return known


def read(path: Path) -> Source:
    """Return the content of the YAML file `path`.

    Raises PlatformError when the file cannot be read, and ConfigurationError when it is not valid
    YAML or has a key twice.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise PlatformError(
            f"{path} cannot be read: {error.strerror}",
            next_step="name a file or an environment that exists: "
            "prefect-platform validate --environment local",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            [Problem(Location(path, 1), "the file is not UTF-8 text", "save it as UTF-8")]
        ) from error
    try:
        root = YAML(typ="safe", pure=True).compose(text)
        lines = dict(_lines(root, (), ()))
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        cause = str(error.problem or error.context)
        at = Location(path, mark.line + 1 if mark else 1)
        raise ConfigurationError(
            [Problem(at, cause.partition(" with value ")[0], _fix(cause))]
        ) from None
    except (YAMLError, TypeError, ValueError) as error:
        # Such as a control character, a key that is a list, or a scalar like `._` that looks like a
        # number but is not one.
        problem = Problem(
            Location(path, 1), f"the file cannot be parsed: {error}", "quote the value"
        )
        raise ConfigurationError([problem]) from None
    except _Recursive as error:
        raise ConfigurationError(
            [
                Problem(
                    Location(path, error.line), "an alias contains itself", "write out its content"
                )
            ]
        ) from None
    return Source(path, data, lines)


class _Recursive(Exception):  # noqa: N818 - it reports a place
    def __init__(self, line: int) -> None:
        self.line = line


def _lines(
    node: Node | None, steps: tuple[Step, ...], above: tuple[Hashable, ...]
) -> Iterator[tuple[tuple[Step, ...], int]]:
    if node is None:
        return
    if id(node) in above:
        raise _Recursive(node.start_mark.line + 1)
    above = (*above, id(node))
    if not steps:
        yield (), node.start_mark.line + 1
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield (*steps, key.value), key.start_mark.line + 1
            yield from _lines(value, (*steps, key.value), above)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield (*steps, index), item.start_mark.line + 1
            yield from _lines(item, (*steps, index), above)


def _fix(cause: str) -> str:
    if "duplicate key" in cause:
        return "keep one of the two"
    return "correct the YAML"
