"""`lint --fix` corrects what is certain, and leaves the rest of the file alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from prefect_platform_cli.lint.fixes import fix
from prefect_platform_cli.lint.linter import lint

_PRINTS = "\ndef sales():\n    print(1)\n"
_IGNORE = "# prefect-lint: ignore"

FIXED = {
    "a bare decorator": (f"@flow{_PRINTS}", f"@flow(log_prints=True){_PRINTS}"),
    "no arguments": (f"@flow(  ){_PRINTS}", f"@flow(  log_prints=True){_PRINTS}"),
    "an argument": (
        f"@flow(name='Ümläut')  # ours{_PRINTS}",
        f"@flow(log_prints=True, name='Ümläut')  # ours{_PRINTS}",
    ),
    "an argument in parentheses": (
        f"@flow(retries=(3)){_PRINTS}",
        f"@flow(log_prints=True, retries=(3)){_PRINTS}",
    ),
    "arguments on lines of their own": (
        f"@flow(\n    # why\n    retries=3,\n    name='a',\n){_PRINTS}",
        f"@flow(\n    # why\n    log_prints=True,\n    retries=3,\n    name='a',\n){_PRINTS}",
    ),
    "a task of a flow": (
        "@flow\ndef sales():\n    load()\n@task\ndef load():\n    print(1)\n",
        "@flow(log_prints=True)\ndef sales():\n    load()\n@task\ndef load():\n    print(1)\n",
    ),
    "a flow and its task": (
        f"@flow\ndef sales():\n    print(load())\n@task{_PRINTS.replace('sales', 'load')}",
        "@flow(log_prints=True)\ndef sales():\n    print(load())\n"
        f"@task{_PRINTS.replace('sales', 'load')}",
    ),
    "a task of two flows": (
        "@flow\ndef a():\n    load()\n@flow\ndef b():\n    load()\n"
        f"@task{_PRINTS.replace('sales', 'load')}",
        "@flow(log_prints=True)\ndef a():\n    load()\n@flow(log_prints=True)\ndef b():\n"
        f"    load()\n@task{_PRINTS.replace('sales', 'load')}",
    ),
    "an ignore behind code": (f"x = 1  {_IGNORE}[PF008] why\n", "x = 1\n"),
    "an ignore at the end": (f"x = 1\n{_IGNORE}[PF008] why", "x = 1\n"),
    "one of two rules": (
        f"requests.get('https://a.test')  {_IGNORE}[PF101, PF008] why\n",
        f"requests.get('https://a.test')  {_IGNORE}[PF008] why\n",
    ),
}
LEFT = {
    "an option that was chosen": f"@flow(log_prints=False){_PRINTS}",
    "an option that one of two flows chose": (
        "@flow\ndef a():\n    load()\n@flow(log_prints=False)\ndef b():\n    load()\n"
        f"@task{_PRINTS.replace('sales', 'load')}"
    ),
    "a decorator of our own": f"def ours(fn):\n    return flow(fn, name='a')\n@ours{_PRINTS}",
    "an ignore that goes on": f"{_IGNORE}[PF008] why,\n# and why not\nx = 1\n",
    "an ignore before another comment": f"x = 1  {_IGNORE}[PF008] why  # noqa: E501\n",
}


def fixed(folder: Path, text: str) -> str:
    """Return the text that `--fix` makes of an example, without its imports."""
    file = folder / "example.py"
    imports = "import requests\nfrom prefect import flow, task\n"
    file.write_text(imports + text)
    fix(lint([folder]).findings)
    return file.read_text().removeprefix(imports)


@pytest.mark.parametrize("case", FIXED)
def test_a_certain_correction_is_made_and_a_second_run_changes_nothing(
    tmp_path: Path, case: str
) -> None:
    before, after = FIXED[case]

    assert fixed(tmp_path, before) == after
    report = lint([tmp_path])
    assert report.unreadable == []
    assert {each.rule.id for each in report.findings} & {"PF006", "PF902"} == set()
    assert fixed(tmp_path, after) == after


@pytest.mark.parametrize("case", LEFT)
def test_what_is_not_certain_stays_a_finding(tmp_path: Path, case: str) -> None:
    assert fixed(tmp_path, LEFT[case]) == LEFT[case]
    assert {each.rule.id for each in lint([tmp_path]).findings} & {"PF006", "PF902"}


@pytest.mark.parametrize(
    ("ending", "encoding"), [("\r\n", "utf-8-sig"), ("\r", "utf-8"), ("\n", "latin-1")]
)
def test_line_endings_and_the_encoding_stay(tmp_path: Path, ending: str, encoding: str) -> None:
    lines = [f"# coding: {encoding}", "from prefect import flow", "é = 1"]
    before = [*lines, "@flow(", "    name='a')", *_PRINTS.split("\n")[1:]]
    after = [*lines, "@flow(", "    log_prints=True,", *before[-4:]]
    file = tmp_path / "example.py"
    file.write_bytes(ending.join(before).encode(encoding))

    fix(lint([file]).findings)

    assert file.read_bytes() == ending.join(after).encode(encoding)


def test_the_command_prints_what_is_left_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(
        "from prefect import flow\n@flow\ndef sales(day):\n    print(day)\n"
    )
    program = Path(sys.executable).with_name("prefect-platform")

    ended = subprocess.run(
        [program, "lint", "--fix", tmp_path], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert "1 fixed" in ended.stderr
    assert [line.split()[1] for line in ended.stdout.splitlines()] == ["PF521"]
