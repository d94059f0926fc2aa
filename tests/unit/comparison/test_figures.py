"""What the comparison of `make bench` computes from its samples."""

import pytest
from rich.console import Console

from bench.comparison.figures import (
    DRAIN,
    IMPORT,
    PLATFORM,
    STOCK,
    TRUE,
    Round,
    outcome,
    percentile,
    ratio,
    ratios,
    table,
)


def test_each_run_of_a_burst_is_counted_as_what_became_of_it() -> None:
    states = {
        "once": "Completed",
        "twice": "Completed",
        "never": "Completed",
        "crashed": "Crashed",
        "crashed-twice": "Crashed",
        "waits": "Pending",
    }
    executed = {"once": 1, "twice": 2, "crashed": 1, "crashed-twice": 2, "of-another-burst": 1}

    found = outcome(states, executed)

    assert (found.wanted, found.completed, found.lost, found.doubled) == (6, 2, 4, 2)
    assert found.states == {"Completed": 3, "Crashed": 2, "Pending": 1}


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, None), ([3.0], 95, 3.0), ([1.0, 2.0, 3.0], 50, 2.0), ([0.0, 100.0], 95, 95.0)],
)
def test_a_percentile_needs_no_minimum_of_samples(
    values: list[float], percent: int, expected: float | None
) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(6.0, 3.0, 2.0), (0.0, 3.0, 0.0), (6.0, 0.0, None), (None, 3.0, None), (6.0, None, None)],
)
def test_a_ratio_without_a_figure_or_to_nothing_is_unknown(
    numerator: float | None, denominator: float | None, expected: float | None
) -> None:
    assert ratio(numerator, denominator) == expected


def test_ratios_compare_figures_of_the_same_round_only() -> None:
    rounds: list[Round] = [
        {PLATFORM: {DRAIN: 10.0}, STOCK: {DRAIN: 20.0}},
        {PLATFORM: {DRAIN: 20.0}, STOCK: {DRAIN: None}},
        {PLATFORM: {DRAIN: 10.0}, STOCK: {DRAIN: 40.0}},
    ]

    assert ratios(rounds, DRAIN, STOCK, PLATFORM) == [2.0, 4.0]


def test_the_table_has_medians_ranges_and_ratios() -> None:
    rounds: list[Round] = [
        {PLATFORM: {DRAIN: 10.0}, STOCK: {DRAIN: 20.0}, IMPORT: {DRAIN: 8.0}, TRUE: {DRAIN: 4.0}},
        {PLATFORM: {DRAIN: 10.0}, STOCK: {DRAIN: 30.0}, IMPORT: {DRAIN: 8.0}, TRUE: {DRAIN: None}},
    ]
    console = Console(width=200)

    with console.capture() as captured:
        console.print(table(rounds))

    (row,) = [line for line in captured.get().splitlines() if DRAIN in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [
        DRAIN,
        "10 (10-10)",
        "25 (20-30)",
        "8 (8-8)",
        "4",
        "2.50 (2-3)",
        "1.25 (1.25-1.25)",
    ]
