"""A test marked `alone` has the machine to itself, and other tests cannot starve it."""

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
    """Return a folder for locks that no other suite uses."""
    monkeypatch.setenv(turns.FOLDER, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    return tmp_path


@contextmanager
def _arrived(how: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has asked for a turn, which ends with the block."""
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


def _is_blocked(process: subprocess.Popen[str]) -> bool:
    """Return whether the kernel lists the process as waiting for a lock."""
    waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(f" {process.pid} " in line for line in waiting)


def _wait_until_blocked(process: subprocess.Popen[str]) -> None:
    assert wait_until(lambda: _is_blocked(process), 30, every=0.05)


@pytest.mark.usefixtures("folder")
def test_tests_of_different_lanes_run_at_the_same_time() -> None:
    with _arrived("shared") as first, _arrived("shared") as second:
        assert _has_its_turn(first)
        assert _has_its_turn(second)


@pytest.mark.usefixtures("folder")
def test_an_alone_test_waits_for_running_tests_and_blocks_later_ones() -> None:
    with _arrived("shared") as running:
        assert _has_its_turn(running)
        with _arrived("alone") as alone:
            _wait_until_blocked(alone)
            with _arrived("shared") as late:
                _wait_until_blocked(late)
                running.communicate()
                assert _has_its_turn(alone)
                assert _is_blocked(late)
                alone.communicate()
                assert _has_its_turn(late)


def test_without_lanes_no_test_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(turns.FOLDER, raising=False)

    with turns.turn(alone=True), turns.turn(alone=False):
        pass
