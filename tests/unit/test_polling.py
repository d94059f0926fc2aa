"""Wait until a condition is met, or while a problem lasts."""

from collections.abc import Callable

import pytest

from prefect_platform.polling import wait_until, wait_while


def each_of(*results: object) -> Callable[[], object]:
    """Return a function that returns these results one after the other."""
    return iter(results).__next__


def test_wait_until_returns_the_first_true_result() -> None:
    assert wait_until(each_of(0, "", "there", "later"), 60, every=0) == "there"


def test_wait_while_returns_the_first_false_result() -> None:
    assert wait_while(each_of("one left", ["two"], 0, ""), 60, every=0) == 0


@pytest.mark.parametrize(("wait", "last"), [(wait_until, ""), (wait_while, "still there")])
def test_a_wait_that_times_out_returns_the_last_result(
    wait: Callable[..., object], last: object
) -> None:
    assert wait(lambda: last, 0, every=0) == last


def test_an_exception_ends_the_wait() -> None:
    def fail() -> bool:
        raise LookupError

    with pytest.raises(LookupError):
        wait_until(fail, 60, every=0)
