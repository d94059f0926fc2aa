"""Init containers wait for a limited time, say why they wait, and stop on SIGTERM."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable

import pytest

from prefect_platform.container import NotYet, wait_for
from prefect_platform.errors import PlatformError

_WAITS_FOREVER = """
import asyncio
from prefect_platform import container

async def wait():
    container.say("waiting")
    await asyncio.Event().wait()

container.run(lambda: asyncio.run(wait()))
"""
_FAILS = """
from prefect_platform import container
from prefect_platform.errors import PlatformError

def fail():
    raise PlatformError("The pool is gone", next_step="make it")

container.run(fail)
"""


def succeeds_after(reasons: Iterable[str]) -> Callable[[], Awaitable[str]]:
    """Return a check that fails once with each of the reasons and then succeeds."""
    remaining = iter(reasons)

    async def check() -> str:
        for reason in remaining:
            raise NotYet(reason)
        return "value"

    return check


def test_the_wait_returns_the_result_of_the_check() -> None:
    check = succeeds_after(["away", "away"])
    assert asyncio.run(wait_for("it", check, timeout=60, next_step="", poll=0)) == "value"


def test_each_reason_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    check = succeeds_after(["away", "away", "empty", "empty"])
    asyncio.run(wait_for("it", check, timeout=60, next_step="", poll=0))
    assert capsys.readouterr().err.splitlines() == [
        "Waiting for it: away",
        "Waiting for it: empty",
    ]


def test_a_wait_that_times_out_reports_the_last_reason() -> None:
    with pytest.raises(PlatformError, match=r"Gave up waiting for it after 0 s: away") as raised:
        asyncio.run(wait_for("it", succeeds_after(["away"]), timeout=0, next_step="look", poll=0))
    assert raised.value.next_step == "look"


def test_any_other_error_ends_the_wait_immediately() -> None:
    async def refused() -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        asyncio.run(wait_for("it", refused, timeout=600, next_step=""))


def test_sigterm_ends_a_waiting_container() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WAITS_FOREVER], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process, process.stderr as log:
        assert log.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM


def test_a_user_error_is_printed_without_a_traceback() -> None:
    failed = subprocess.run(
        [sys.executable, "-c", _FAILS], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert failed.stderr == "The pool is gone\nNext: make it\n"
