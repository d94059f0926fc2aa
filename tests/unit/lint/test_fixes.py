"""`lint --fix` corrects what is certain, and leaves the rest of the file alone."""

import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.lint.fixes import fix
from prefect_platform_cli.lint.linter import lint

_PRINTS = "\ndef sales():\n    print(1)\n"
_FLOW = f"from prefect import flow\n@flow{_PRINTS}"
_FIXED_FLOW = f"from prefect import flow\n@flow(log_prints=True){_PRINTS}"
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


def fix_in(*paths: Path) -> int:
    report = lint(paths)
    return fix(report.findings, report.texts)


def fixed(folder: Path, text: str) -> str:
    """Return the text that `--fix` makes of an example, without its imports."""
    file = folder / "example.py"
    imports = "import requests\nfrom prefect import flow, task\n"
    file.write_text(imports + text)
    fix_in(folder)
    return file.read_text().removeprefix(imports)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow beyond the size of the flow, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(_FLOW), hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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

    fix_in(file)

    assert file.read_bytes() == ending.join(after).encode(encoding)


@pytest.mark.parametrize("link", ["symbolic", "hard", "folder"])
def test_a_file_with_two_names_is_edited_once(tmp_path: Path, link: str) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    file = folder / "example.py"
    file.write_text(_FLOW)
    other = folder / "other.py"
    if link == "symbolic":
        other.symlink_to(file.name)
    elif link == "hard":
        other.hardlink_to(file)
    else:
        (tmp_path / "second").symlink_to(folder, target_is_directory=True)
        other = tmp_path / "second" / file.name

    fix_in(folder, other.parent)

    assert file.read_text() == other.read_text() == _FIXED_FLOW
    assert other.is_symlink() is (link == "symbolic")
    assert fix_in(folder, other.parent) == 0


def test_a_file_that_has_changed_since_it_was_linted_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(_FLOW)
    report = lint([file])
    file.write_text(f"# new\n{_FLOW}")

    with pytest.raises(PlatformError) as refused:
        fix(report.findings, report.texts)

    assert refused.value.message == f"{file} has changed since it was linted"
    assert file.read_text() == f"# new\n{_FLOW}"


@pytest.mark.usefixtures("small_files")
def test_a_file_that_cannot_be_written_as_a_whole_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(_FLOW)

    with pytest.raises(PlatformError, match="cannot be written: File too large"):
        fix_in(file)

    assert [each.read_text() for each in tmp_path.iterdir()] == [_FLOW]


def test_the_mode_of_a_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(_FLOW)
    file.chmod(0o751)

    fix_in(file)

    assert file.read_text() == _FIXED_FLOW
    assert stat.S_IMODE(file.stat().st_mode) == 0o751


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
