"""Text from the server is shown as it is, and controls neither the terminal nor our own markup."""

import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from prefect_platform import console, container
from prefect_platform.console import step
from prefect_platform.visible_text import visible

_HOSTILE = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b31m\u202eend"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """Let both consoles write to a file that they take for a terminal with colours."""
    written = StringIO()
    for each in (console.out, console.err):
        monkeypatch.setattr(each, "_file", written)
        monkeypatch.setattr(each, "_force_terminal", True)
        monkeypatch.setattr(each, "_color_system", console.out._detect_color_system())
    return written


@given(st.text())
def test_no_text_keeps_a_character_that_controls_a_terminal(text: str) -> None:
    shown = visible(text)
    assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}
    assert len(shown) == len(text)
    assert [c for c in text if c.isprintable()] == [
        shown[index] for index, c in enumerate(text) if c.isprintable()
    ]


def test_printed_text_does_not_control_the_terminal(terminal: StringIO) -> None:
    table = Table()
    table.add_row(_HOSTILE)
    console.out.print(_HOSTILE, markup=False)
    console.out.print(table)
    with step(_HOSTILE) as current:
        current.detail = _HOSTILE

    assert terminal.getvalue().count("␛]52;c;cm0gLXJm␛[2J") == 4
    for sequence in ("\x1b]", "\x1b[2J", "\x9b", "\u202e"):
        assert sequence not in terminal.getvalue()


def test_a_step_shows_text_that_looks_like_markup(terminal: StringIO) -> None:
    with step("Run [/red] as [bold]") as current:
        current.detail = "[link=https://example.org]here[/link]"

    assert "Run [/red] as [bold]: [link=https://example.org]here[/link]" in terminal.getvalue()


def test_the_log_of_a_container_does_not_control_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    container.say(f"{_HOSTILE}\n\tof a run")
    assert capsys.readouterr().err == "␛]52;c;cm0gLXJm␇␛[2J�31m�end\n\tof a run\n"
