"""A random schedule of faults can be repeated by its seed."""

from itertools import islice

from tests.chaos.faults import FAULTS
from tests.chaos.schedule import drawn


def first(count: int, seed: int) -> list[tuple[float, str]]:
    schedule = drawn(tuple(FAULTS.values()), seed)
    return [(pause, fault.name) for pause, fault in islice(schedule, count)]


def test_the_same_seed_draws_the_same_faults_and_pauses() -> None:
    assert first(100, seed=1) == first(100, seed=1)


def test_another_seed_draws_other_faults() -> None:
    assert [fault for _, fault in first(100, seed=1)] != [fault for _, fault in first(100, seed=2)]


def test_every_fault_is_drawn_sooner_or_later() -> None:
    assert {fault for _, fault in first(1000, seed=1)} == set(FAULTS)
