"""Turns on the machine: tests of different lanes run at the same time, except those marked `alone`.

Two locks make a turnstile. Every test takes the first lock on arrival, so a test that waits to run
alone blocks the tests that arrive after it, and they cannot starve it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

FOLDER = "TESTS_TURNS"
"""The variable that names the folder of the locks; if it is not set, there is only one lane."""


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Wait for a turn, and keep it while the block runs."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        yield
        return
    with ExitStack() as until_the_end:
        with _locked(Path(folder, "arrival"), fcntl.LOCK_EX):
            kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            until_the_end.enter_context(_locked(Path(folder, "running"), kind))
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, kind)
        yield
