"""A random schedule of faults, which its seed determines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random

from tests.chaos.fault import Fault

_PAUSE = (10, 40)  # seconds, in which the load goes on by itself


@dataclass(frozen=True)
class Injection:
    """A fault that was injected at some time."""

    fault: str
    at: datetime


def drawn(faults: Sequence[Fault], seed: int) -> Iterator[tuple[float, Fault]]:
    """Yield pauses in seconds, each with the fault that follows it, without end."""
    source = Random(seed)  # noqa: S311 - it has to be repeatable
    while True:
        yield source.uniform(*_PAUSE), source.choice(faults)
