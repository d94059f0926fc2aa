"""What cannot be linted is one line and exit code 2; findings are 1, and nothing is 0."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_platform.errors import PlatformError
from prefect_platform_cli.lint import command, source
from prefect_platform_cli.lint.catalogue import explanation
from prefect_platform_cli.lint.formats import Format
from prefect_platform_cli.lint.linter import lint

_CLEAN = "from prefect import flow\n\n\n@flow\ndef report() -> None:\n    pass\n"
_FOUND = "import requests\n\n\ndef prices():\n    return requests.get('https://x.test')\n"
UNREADABLE = {
    "syntax of Python 2": (b"print 'hello'\n", ":1: does not parse as Python 3."),
    "syntax of a newer Python": (b"x = t'{y}'\n", ":1: does not parse as Python 3."),
    "an open bracket": (b"x = (1,\n", ":1: does not parse as Python 3."),
    "a null byte": (b"x = 1\n\0", "does not parse as Python 3."),
    "text that is not UTF-8": (b"x = '\xe9'\n", "is not text in the encoding it declares"),
    "an unknown encoding": (b"# coding: klingon\n", "is not text in the encoding it declares"),
    "more than a megabyte": (b"x = 1\n" * 200_000, "is larger than 1000 kB"),
    "an expression that is too deep": (b"x = " + b"-" * 2500 + b"1\n", ""),
}
# Words from which arbitrary programs that use Prefect can arise.
_WORDS = st.sampled_from(
    [
        *("import prefect", "from prefect import flow, task", "from . import x", "import a as a"),
        *(
            "@flow",
            "@task(retries=3)",
            "@x",
            "def f(x: 'f'=x): ",
            "def x(): return x()",
            "class x(x): ",
        ),
        *("x = x", "x = x.x()", "x = f = task(f)", "x()", "while x: x()", "with x() as x: x.get()"),
        *(
            "if __name__ == '__main__': x()",
            "# prefect-lint: ignore[PF001]",
            "return x",
            "print(x)",
        ),
        *(
            "password = 'hunter2'",
            "self.x = self",
            "async def f(self): await x",
            "lambda: x",
            ":",
            "(",
        ),
    ]
)
_PROGRAMS = st.lists(st.tuples(st.integers(0, 3), _WORDS), max_size=12).map(
    lambda lines: "\n".join("    " * depth + words for depth, words in lines)
)


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_file_that_cannot_be_linted_is_one_line_and_the_others_are_linted(
    what: str, tmp_path: Path
) -> None:
    content, reason = UNREADABLE[what]
    (tmp_path / "bad.py").write_bytes(content)
    (tmp_path / "found.py").write_text(_FOUND)

    report = lint([tmp_path])

    (error,) = report.unreadable
    assert str(error).startswith(f"{tmp_path / 'bad.py'}")
    assert reason in str(error)
    assert "\n" not in str(error)
    assert [each.rule.id for each in report.findings] == ["PF008"]


@pytest.mark.parametrize("content", ["[", "a: 1\na: 2\n", "a: &a [*a]\n"])
def test_a_prefect_yaml_that_is_not_valid_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text(content)

    (error,) = lint([tmp_path]).unreadable

    assert str(error).startswith(f"{tmp_path / 'prefect.yaml'}:")


def test_links_that_lead_in_a_circle_or_nowhere_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "loop.py").symlink_to("loop.py")
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "good.py").write_text(_CLEAN)

    report = lint([tmp_path, tmp_path / "loop.py"])

    assert sorted({str(each).partition(":")[0] for each in report.unreadable}) == [
        str(tmp_path / "gone.py"),
        str(tmp_path / "loop.py"),
    ]
    assert report.findings == []


def test_a_folder_without_python_and_a_missing_one_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    empty, missing = lint([tmp_path / "empty", tmp_path / "missing"]).unreadable

    assert str(empty) == f"{tmp_path / 'empty'}: has neither Python files nor a prefect.yaml"
    assert str(missing) == f"{tmp_path / 'missing'}: cannot be read: No such file or directory"


def test_columns_count_characters_and_a_form_feed_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text("\x0cimport requests\nö = 'ä\u2028ö'; requests.get('https://x.test')\n")

    places = {(each.line, each.column) for each in lint([path]).findings}

    assert places == {(2, 12)}


@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.text(), _PROGRAMS))
def test_no_text_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "text.py"
    path.write_text(text, errors="surrogatepass", newline="")

    report = lint([path])

    assert report.files == 1


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=200))
def test_no_bytes_end_in_a_traceback(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.py"
    path.write_bytes(content)

    assert lint([path]).files == 1


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"good.py": _CLEAN}, 0),
        ({"found.py": _FOUND}, 1),
        ({"found.py": _FOUND, "bad.py": "print 'x'"}, 2),
    ],
)
def test_the_exit_code_says_whether_something_was_found(
    files: dict[str, str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert command.run([tmp_path], Format.TEXT, None) == code
    assert ("found.py:5:12 PF008 requests.get has no timeout" in capsys.readouterr().out) == bool(
        code
    )


def test_the_command_ends_with_the_exit_code_and_one_line_for_each_fault(tmp_path: Path) -> None:
    (tmp_path / "found.py").write_text(_FOUND)
    (tmp_path / "bad.py").write_text("print 'x'")

    ended = subprocess.run(
        [Path(sys.executable).with_name("prefect-platform"), "lint", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert len(ended.stdout.splitlines()) == 1
    assert ended.stderr.splitlines() == [
        f"error: {tmp_path / 'bad.py'}:1: does not parse as Python {source.PYTHON}: Missing "
        "parentheses in call to 'print'. Did you mean print(...)?",
        "2 files: 1 error, 1 not linted",
    ]


def test_a_flow_that_prefect_rejects_is_linted_like_any_other(tmp_path: Path) -> None:
    """Only `validate`, which loads flows, knows what Prefect rejects: see test_flow_loader."""
    (tmp_path / "rejected.py").write_text(_CLEAN.replace("@flow", "@flow(name=3)"))
    (tmp_path / "found.py").write_text(_FOUND)

    report = lint([tmp_path])

    assert report.unreadable == []
    assert [each.rule.id for each in report.findings] == ["PF008"]


def test_a_format_and_a_rule_that_do_not_exist_are_refused() -> None:
    with pytest.raises(PlatformError, match="the formats are text, json, sarif, github"):
        command.parse_format("xml")
    with pytest.raises(PlatformError, match="there is no rule PF000: the rules are PF001, "):
        explanation("PF000")


def test_a_rule_is_explained_with_its_examples() -> None:
    explained = explanation("pf003")

    assert explained.startswith("## PF003: A network call in a task without retries\n")
    assert "Bad:" in explained
    assert "## PF004" not in explained


def test_linting_imports_neither_prefect_nor_kubernetes() -> None:
    program = (
        "import sys; from prefect_platform_cli.lint import command; "
        "print({'prefect', 'kubernetes', 'requests'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "set()\n"
