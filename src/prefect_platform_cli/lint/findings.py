"""What the linter reports: findings of rules, each at a place."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Severity(StrEnum):
    """How a rule is worded: `must` makes errors, `should` makes warnings."""

    MUST = "error"
    SHOULD = "warning"


@dataclass(frozen=True)
class Rule:
    """A rule of the catalogue; docs/flows/rules.md explains it below the heading `ID: title`.

    `fixable` says that `--fix` corrects its findings, where only one correction is possible.
    """

    id: str
    severity: Severity
    title: str
    fixable: bool = False


@dataclass(frozen=True, order=True)
class Edit:
    """Replaces what is between two places, each a line and a column that count from 1."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str


@dataclass(frozen=True)
class Finding:
    """A place that breaks a rule; `message` is one sentence that ends with the fix.

    `line` and `column` count from 1. `edits` correct the file; without any, a person has to.
    """

    path: Path
    line: int
    column: int
    rule: Rule
    message: str
    edits: tuple[Edit, ...] = ()
