"""What the platform's container programs share: waiting with a timeout, logging and exiting."""

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryError,
    retry_if_exception_type,
    stop_after_delay,
    wait_fixed,
)

from prefect_platform.errors import PlatformError
from prefect_platform.visible_text import visible

_POLL_SECONDS = 1.0

T = TypeVar("T")


class NotYet(Exception):  # noqa: N818 - it reports a state, not an error
    """The awaited condition does not hold yet; the text is the reason, which is logged."""


async def wait_for(
    what: str,
    check: Callable[[], Awaitable[T]],
    *,
    timeout: float,
    next_step: str,
    poll: float = _POLL_SECONDS,
) -> T:
    """Call `check` every `poll` seconds until it returns, and return its value.

    `check` raises NotYet as long as it has to be called again. A reason is logged only when it
    differs from the previous one. Raises PlatformError with the last reason after `timeout`
    seconds; any other exception of `check` passes through at once.
    """
    reason = ""

    async def attempt() -> T:
        nonlocal reason
        try:
            return await check()
        except NotYet as error:
            if str(error) != reason:
                reason = str(error)
                say(f"Waiting for {what}: {reason}")
            raise

    try:
        return await AsyncRetrying(
            retry=retry_if_exception_type(NotYet),
            stop=stop_after_delay(timeout),
            wait=wait_fixed(poll),
        )(attempt)
    except RetryError as error:
        raise PlatformError(
            f"Gave up waiting for {what} after {timeout:.0f} s: {reason}", next_step=next_step
        ) from error


def say(line: str) -> None:
    """Write one line to the container's log (stderr) and flush it."""
    sys.stderr.write(f"{visible(line)}\n")
    sys.stderr.flush()


def run(work: Callable[[], None]) -> NoReturn:
    """Run `work` as a container's main process, then exit with 0, or with 1 on a PlatformError.

    The kernel does not deliver SIGTERM to PID 1 unless the process handles it. Without a handler,
    stopping the pod would take its whole grace period.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        work()
    except PlatformError as error:
        say(str(error))
        sys.exit(1)
    sys.exit(0)
