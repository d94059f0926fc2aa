"""Every rule has a section in docs/flows/rules.md, whose bad example it finds, and only there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform_cli.lint.catalogue import PAGE, RULES, explanation
from prefect_platform_cli.lint.findings import Severity
from prefect_platform_cli.lint.fixes import fix
from prefect_platform_cli.lint.linter import lint

_EXAMPLE = re.compile(r"^(Bad|Good):\n\n```(python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEXT_FILE = re.compile(r"^# (\w+\.py)\n", re.MULTILINE)
_LIMITS = frozenset({"warehouse"})
_FLOW = "from prefect import flow\n\n\n@flow\ndef report() -> None:\n    pass\n"


def examples(rule: str) -> Iterator[tuple[str, str, str]]:
    """Yield kind, language and text of the examples of a rule."""
    for found in _EXAMPLE.finditer(explanation(rule)):
        yield found[1], found[2], found[3]


def write(folder: Path, language: str, text: str) -> None:
    """Write an example of one or more files."""
    if language == "yaml":
        (folder / "prefect.yaml").write_text(text)
        (folder / "report.py").write_text(_FLOW)
        return
    first, *others = _NEXT_FILE.split(text)
    (folder / "example.py").write_text(first)
    for name, content in zip(others[::2], others[1::2], strict=True):
        (folder / name).write_text(content)


def found_in(folder: Path) -> set[str]:
    report = lint([folder], _LIMITS)
    assert report.unreadable == []
    return {each.rule.id for each in report.findings}


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_the_page_has_exactly_the_rules_of_the_linter_in_order() -> None:
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)

    assert headings == [f"{rule.id}: {rule.title}" for rule in RULES.values()]


@pytest.mark.parametrize("rule", RULES)
def test_the_page_says_how_severe_a_rule_is(rule: str) -> None:
    word = "Must" if RULES[rule].severity is Severity.MUST else "Should"
    fixable = ", corrected by `--fix`" if RULES[rule].fixable else ""

    assert explanation(rule).split("\n")[2].startswith(f"{word}{fixable}.")


def test_the_page_lists_the_rules_that_are_fixable() -> None:
    listed = re.search(r"corrects ([\w ,]+)\.", PAGE.read_text())

    assert listed
    assert re.findall(r"PF\d+", listed[1]) == [rule.id for rule in RULES.values() if rule.fixable]


@pytest.mark.parametrize("rule", RULES)
def test_the_bad_example_is_corrected_if_its_rule_is_fixable(rule: str, tmp_path: Path) -> None:
    (bad,) = (each for each in examples(rule) if each[0] == "Bad")
    write(tmp_path, *bad[1:])
    before = contents(tmp_path)

    report = lint([tmp_path], _LIMITS)
    fix(report.findings, report.texts)

    assert found_in(tmp_path) == (set() if RULES[rule].fixable else {rule})
    assert (contents(tmp_path) != before) is RULES[rule].fixable


@pytest.mark.parametrize("rule", RULES)
def test_the_bad_example_breaks_its_rule_and_no_other(rule: str, tmp_path: Path) -> None:
    bad = [each for each in examples(rule) if each[0] == "Bad"]

    assert len(bad) == 1
    write(tmp_path, *bad[0][1:])
    assert found_in(tmp_path) == {rule}


@pytest.mark.parametrize("rule", RULES)
def test_the_good_example_breaks_no_rule(rule: str, tmp_path: Path) -> None:
    good = [each for each in examples(rule) if each[0] == "Good"]

    assert len(good) == 1
    write(tmp_path, *good[0][1:])
    assert found_in(tmp_path) == set()
