"""A test that is alone has the machine to itself, and is not passed by for ever."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefect_platform.polling import wait_until
from tests.support import turns

_TAKES_A_TURN = """
import sys
from tests.support.turns import turn
print("arrives", flush=True)
with turn(alone=sys.argv[1] == "alone"):
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a suite of its own."""
    monkeypatch.setenv(turns.FOLDER, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    return tmp_path


@contextmanager
def _arrived(how: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has arrived at the turnstile; its turn ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-c", _TAKES_A_TURN, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "arrives\n"
        try:
            yield process
        finally:
            process.communicate()


def _has_its_turn(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "has it\n"


def _waits_at(process: subprocess.Popen[str]) -> bool:
    """Return whether the kernel has it among those that wait for a lock."""
    waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(f" {process.pid} " in line for line in waiting)


def _until_it_waits(process: subprocess.Popen[str]) -> None:
    assert wait_until(lambda: _waits_at(process), 30, every=0.05)


@pytest.mark.usefixtures("folder")
def test_tests_of_all_lanes_run_beside_each_other() -> None:
    with _arrived("beside") as first, _arrived("beside") as second:
        assert _has_its_turn(first)
        assert _has_its_turn(second)


@pytest.mark.usefixtures("folder")
def test_one_that_is_alone_waits_for_those_that_run_and_holds_up_those_that_come() -> None:
    with _arrived("beside") as running:
        assert _has_its_turn(running)
        with _arrived("alone") as alone:
            _until_it_waits(alone)
            with _arrived("beside") as late:
                _until_it_waits(late)
                running.communicate()
                assert _has_its_turn(alone)
                assert _waits_at(late)
                alone.communicate()
                assert _has_its_turn(late)


def test_without_lanes_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(turns.FOLDER, raising=False)

    with turns.turn(alone=True), turns.turn(alone=False):
        pass
