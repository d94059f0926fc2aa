"""What the comparison computes from its samples, and the table that it prints."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from rich.table import Table

PLATFORM, STOCK = "platform", "stock"
IMPORT, TRUE = "import once", "/bin/true"
RATIOS = ((STOCK, PLATFORM), (PLATFORM, IMPORT))
"""The set-ups whose figures are compared, as numerator and denominator."""
START_P50, START_P95 = "start, p50 (s)", "start, p95 (s)"
DRAIN, COMPLETED, LOST, DOUBLED, FAULTS = (
    "burst, until all have ended (s)",
    "burst, completed",
    "burst, lost",
    "burst, doubled",
    "burst, API errors",
)
PROCESSOR = "CPU-s for a run"
IDLE_PROCESSOR, IDLE_MEMORY = "idle (% of a core)", "idle, memory (MiB)"
_UNKNOWN = "-"

Figures = Mapping[str, float | None]
"""The figures of one set-up in one round by their names; None for one that could not be taken."""
Round = Mapping[str, Figures]
"""The figures of a round by set-up."""


@dataclass(frozen=True)
class Outcome:
    """What became of the runs of a burst."""

    wanted: int
    completed: int
    lost: int
    """Runs that did not complete."""
    doubled: int
    """Runs whose flow was executed more than once."""
    states: Mapping[str, int]


def outcome(states: Mapping[str, str], executed: Mapping[str, int]) -> Outcome:
    """Return the outcome of runs from their states and the number of their executions, by run id.

    A run that is Completed without an execution counts as lost.
    """
    completed = sum(
        state == "Completed" and executed.get(run, 0) > 0 for run, state in states.items()
    )
    return Outcome(
        wanted=len(states),
        completed=completed,
        lost=len(states) - completed,
        doubled=sum(executed.get(run, 0) > 1 for run in states),
        states=dict(Counter(states.values())),
    )


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Return a percentile of the values, None if there are none."""
    if len(values) < 2:  # noqa: PLR2004 - quantiles() needs two
        return next(iter(values), None)
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Return the quotient, None if a figure is missing or nothing can be divided by it."""
    if numerator is None or denominator is None or denominator <= 0:
        return None
    return numerator / denominator


def ratios(rounds: Sequence[Round], figure: str, above: str, below: str) -> list[float]:
    """Return the ratio of a figure of two set-ups in each round that has both."""
    found = (
        ratio(each.get(above, {}).get(figure), each.get(below, {}).get(figure)) for each in rounds
    )
    return [each for each in found if each is not None]


def table(rounds: Sequence[Round]) -> Table:
    """Return a row for each figure: the median of the rounds, the range, and the ratios."""
    figures = dict.fromkeys(
        figure for each in rounds for figures in each.values() for figure in figures
    )
    set_ups = (PLATFORM, STOCK, IMPORT, TRUE)
    shown = Table("", *set_ups, *(f"{above} / {below}" for above, below in RATIOS))
    for figure in figures:
        values = [
            [value for each in rounds if (value := each.get(name, {}).get(figure)) is not None]
            for name in set_ups
        ]
        compared = [ratios(rounds, figure, *pair) for pair in RATIOS]
        shown.add_row(figure, *map(_spread, [*values, *compared]))
    return shown


def _spread(values: Sequence[float]) -> str:
    """Return the median, and the range if there are several values."""
    if not values:
        return _UNKNOWN
    shown = _number(median(values))
    return shown if len(values) == 1 else f"{shown} ({_number(min(values))}-{_number(max(values))})"


def _number(value: float) -> str:
    if value == round(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004 - digits
