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
    """A rule of the catalogue; docs/flows/rules.md explains it below the heading `ID: title`."""

    id: str
    severity: Severity
    title: str


@dataclass(frozen=True)
class Finding:
    """A place that breaks a rule; `message` is one sentence that ends with the fix.

    `line` and `column` count from 1.
    """

    path: Path
    line: int
    column: int
    rule: Rule
    message: str
