"""Secrets that the programs which this process starts do not inherit."""

import os

_values: dict[str, str] = {}


def withhold(*names: str) -> None:
    """Remove variables from the environment; only `with_withheld` still has them."""
    _values.update({name: os.environ.pop(name) for name in names if name in os.environ})


def with_withheld() -> dict[str, str]:
    """Return the environment with the variables that were removed from it."""
    return {**_values, **os.environ}
