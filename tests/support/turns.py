"""Turns on the machine: the tests of all lanes run beside each other, one that is `alone` does not.

Two locks make a turnstile: whoever comes goes through the first one, so that a test which waits to
be alone holds up those that come after it, and is not passed by for ever.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

FOLDER = "TESTS_TURNS"
"""The variable that names the folder of the locks; without it there is only one lane."""


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Wait for a turn, and have it while the block runs."""
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
