"""Every format says the same, in the form that its readers parse."""

import json
from pathlib import Path

from prefect_platform_cli.lint.catalogue import RULES
from prefect_platform_cli.lint.findings import Finding
from prefect_platform_cli.lint.formats import Format, render, summary
from prefect_platform_cli.lint.linter import Report
from prefect_platform_cli.lint.source import Unreadable

_ERROR = Finding(Path("flows/a,b: é.py"), 3, 5, RULES["PF003"], "100% wrong\nin two lines")
_WARNING = Finding(Path("flows/c.py"), 1, 1, RULES["PF501"], "no \x1b[2Jtags")
_REPORT = Report(2, [_ERROR, _WARNING], [Unreadable(Path("d.py"), "does not parse", 7)], {})


def test_text_has_the_place_the_rule_and_the_message_and_controls_no_terminal() -> None:
    assert render(_REPORT, Format.TEXT).splitlines()[-1] == "flows/c.py:1:1 PF501 no ␛[2Jtags"
    assert summary(_REPORT) == "2 files: 1 error, 1 warning, 1 not linted"
    assert summary(Report(1, [], [], {})) == "1 file: nothing found"


def test_json_has_one_object_for_each_finding() -> None:
    first, second = json.loads(render(_REPORT, Format.JSON))

    assert first == {
        "path": "flows/a,b: é.py",
        "line": 3,
        "column": 5,
        "rule": "PF003",
        "severity": "error",
        "message": "100% wrong\nin two lines",
    }
    assert (second["rule"], second["severity"]) == ("PF501", "warning")


def test_sarif_names_each_rule_and_place_and_what_could_not_be_linted() -> None:
    log = json.loads(render(_REPORT, Format.SARIF))
    (run,) = log["runs"]
    result = run["results"][0]

    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    assert (result["ruleId"], result["level"]) == ("PF003", "error")
    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "flows/a%2Cb%3A%20%C3%A9.py"},
        "region": {"startLine": 3, "startColumn": 5},
    }
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"] == {
        "text": "d.py:7: does not parse"
    }


def test_annotations_of_github_are_escaped() -> None:
    assert render(_REPORT, Format.GITHUB).splitlines() == [
        "::error file=flows/a%2Cb%3A é.py,line=3,col=5,"
        "title=PF003 A network call in a task without retries::100%25 wrong%0Ain two lines",
        "::warning file=flows/c.py,line=1,col=1,title=PF501 A deployment without tags::"
        "no \x1b[2Jtags",
        "::error::d.py:7: does not parse",
    ]
