"""What our init containers share: bounded waiting, and a clean end."""

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

_POLL_SECONDS = 1.0

T = TypeVar("T")


class NotYet(Exception):  # noqa: N818 - it reports a state, not an error
    """What is waited for is not there yet; the text says why, and the user sees it."""


async def wait_for(
    what: str,
    check: Callable[[], Awaitable[T]],
    *,
    timeout: float,
    next_step: str,
    poll: float = _POLL_SECONDS,
) -> T:
    """Call `check` every `poll` seconds until it returns, and return its value.

    Each new reason of a NotYet is printed once. Raises PlatformError with the last reason
    when `timeout` seconds have passed; any other exception passes through at once.
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
    """Print one line into the container's log, at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def run(work: Callable[[], None]) -> NoReturn:
    """Run `work` as a container's main process and exit: 0, or 1 with the user's sentence.

    The first process of a container ignores SIGTERM unless it handles it; its pod would then
    take the whole grace period to go.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        work()
    except PlatformError as error:
        say(str(error))
        sys.exit(1)
    sys.exit(0)
