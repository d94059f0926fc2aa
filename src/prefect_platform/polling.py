"""Wait for a condition, with a bound."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], seconds: float, *, every: float = 0.1) -> _T:
    """Return the first true result of `condition`, or its last one when `seconds` have passed.

    `every` is the time between two calls, in seconds.
    """
    return _repeat(condition, lambda result: not result, seconds, every)


def wait_while(problem: Callable[[], _T], seconds: float, *, every: float = 0.1) -> _T:
    """Return the first false result of `problem`, or its last one when `seconds` have passed.

    For a `problem` that says what is still missing, so that the caller can report it. `every` is
    the time between two calls, in seconds.
    """
    return _repeat(problem, bool, seconds, every)


def _repeat(
    call: Callable[[], _T], again: Callable[[_T], bool], seconds: float, every: float
) -> _T:
    return Retrying(
        retry=retry_if_result(again),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(every),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )(call)
