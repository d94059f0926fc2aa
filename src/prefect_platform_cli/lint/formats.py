"""Print a report: as text for people, JSON, SARIF, or annotations of GitHub."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from prefect_platform.visible_text import visible
from prefect_platform_cli.lint.catalogue import RULES
from prefect_platform_cli.lint.findings import Finding, Severity
from prefect_platform_cli.lint.linter import Report

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


class Format(StrEnum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def render(report: Report, chosen: Format) -> str:
    """Return the findings of `report` in one of the formats, without the last line break."""
    return _RENDERERS[chosen](report)


def summary(report: Report) -> str:
    """Return how much was linted and found, as one line."""
    files = _plural(report.files, "file")
    counted = Counter(each.rule.severity for each in report.findings)
    found = [_plural(counted[each], each) for each in Severity if counted[each]]
    if report.unreadable:
        found.append(f"{len(report.unreadable)} not linted")
    return f"{files}: {', '.join(found) or 'nothing found'}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _text(report: Report) -> str:
    return "\n".join(
        visible(f"{each.path}:{each.line}:{each.column} {each.rule.id} {each.message}")
        for each in report.findings
    )


def _json(report: Report) -> str:
    found = [
        {
            "path": str(each.path),
            "line": each.line,
            "column": each.column,
            "rule": each.rule.id,
            "severity": each.rule.severity,
            "message": each.message,
        }
        for each in report.findings
    ]
    return json.dumps(found, indent=2)


def _sarif(report: Report) -> str:
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "defaultConfiguration": {"level": rule.severity},
        }
        for rule in RULES.values()
    ]
    results = [
        {
            "ruleId": each.rule.id,
            "level": each.rule.severity,
            "message": {"text": each.message},
            "locations": [{"physicalLocation": _location(each)}],
        }
        for each in report.findings
    ]
    driver = {"name": "prefect-platform lint", "rules": rules}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": results,
        "invocations": [
            {
                "executionSuccessful": not report.unreadable,
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": str(each)}} for each in report.unreadable
                ],
            }
        ],
    }
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=2)


def _location(finding: Finding) -> dict[str, Any]:
    path = finding.path
    return {
        "artifactLocation": {"uri": path.as_uri() if path.is_absolute() else _relative_uri(path)},
        "region": {"startLine": finding.line, "startColumn": finding.column},
    }


def _relative_uri(path: Path) -> str:
    root = Path("/")
    return (root / path).as_uri().removeprefix(root.as_uri())


def _github(report: Report) -> str:
    return "\n".join(_annotations(report))


def _annotations(report: Report) -> Iterator[str]:
    for each in report.findings:
        place = f"file={_property(str(each.path))},line={each.line},col={each.column}"
        title = _property(f"{each.rule.id} {each.rule.title}")
        yield f"::{each.rule.severity} {place},title={title}::{_data(each.message)}"
    for error in report.unreadable:
        yield f"::error::{_data(str(error))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


_RENDERERS: dict[Format, Callable[[Report], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.SARIF: _sarif,
    Format.GITHUB: _github,
}
