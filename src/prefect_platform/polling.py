"""Wait for a condition, with a bound."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

_T = TypeVar("_T")


def poll(probe: Callable[[], _T], seconds: float, *, every: float = 0.1) -> _T:
    """Return the first false result of `probe`, or its last one when `seconds` have passed.

    `every` is the time between two calls, in seconds.
    """
    return Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(every),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )(probe)
