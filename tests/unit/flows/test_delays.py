"""The transform, compared with a computation in pandas that shares no code with it."""

import datetime as dt
import random
from collections import Counter

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.delays import Delays, summarise
from lib.flight_days import PACKAGE_SOURCE, read_day
from tests.unit.flows.delays_by_pandas import DIMENSIONS, by_pandas

DAY = dt.date(2013, 2, 8)


@pytest.mark.parametrize(
    "day",
    [
        pytest.param(dt.date(2013, 2, 8), id="a snow storm cancels half of the flights"),
        pytest.param(dt.date(2013, 11, 3), id="the clock goes back an hour"),
        pytest.param(dt.date(2013, 12, 31), id="nobody recorded the weather"),
    ],
)
def test_the_rows_equal_those_computed_with_pandas(day: dt.date) -> None:
    rows = pd.DataFrame(summarise(day, read_day(PACKAGE_SOURCE, day)), columns=Delays._fields)
    pd.testing.assert_frame_equal(rows, by_pandas(day), check_dtype=False)


minutes = st.one_of(st.just("NA"), st.integers(-60, 1500).map(str))
flight_rows = st.lists(
    st.tuples(
        st.sampled_from(["UA", "DL", "B6"]),
        st.sampled_from(["EWR", "LGA", "JFK"]),
        st.integers(0, 23),
        st.one_of(st.just("NA"), st.integers(1, 2400).map(str)),
        minutes,
        minutes,
    ),
    min_size=1,
    max_size=30,
)
weather_rows = st.dictionaries(
    st.tuples(st.sampled_from(["EWR", "LGA", "JFK"]), st.integers(0, 23)),
    st.tuples(
        st.one_of(st.just("NA"), st.floats(0, 60).map(str)),
        st.floats(0, 2).map(str),
        st.floats(0, 10).map(str),
    ),
)


def files(
    flights: list[tuple[str, str, int, str, str, str]],
    weather: dict[tuple[str, int], tuple[str, str, str]],
) -> dict[str, str]:
    return {
        "flights": "\n".join(
            [
                "carrier,origin,time_hour,dep_time,dep_delay,arr_delay",
                *(",".join(map(str, row)) for row in flights),
            ]
        ),
        "weather": "\n".join(
            [
                "origin,time_hour,wind_speed,precip,visib",
                *(",".join(map(str, (*key, *values))) for key, values in weather.items()),
            ]
        ),
        "airlines": "carrier,name\nUA,United Air Lines Inc.",
    }


@settings(deadline=None)  # a busy machine must not fail the test
@given(flight_rows, weather_rows)
def test_the_members_of_each_dimension_add_up_to_all_flights_and_cancellations(
    flights: list[tuple[str, str, int, str, str, str]],
    weather: dict[tuple[str, int], tuple[str, str, str]],
) -> None:
    total: Counter[str] = Counter()
    cancelled: Counter[str] = Counter()
    for row in summarise(DAY, files(flights, weather)):
        total[row.dimension] += row.flights
        cancelled[row.dimension] += row.cancelled
    assert total == dict.fromkeys(DIMENSIONS, len(flights))
    assert cancelled == dict.fromkeys(DIMENSIONS, sum(flight[3] == "NA" for flight in flights))


@settings(deadline=None)  # a busy machine must not fail the test
@given(flight_rows, weather_rows, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_change_the_rows(
    flights: list[tuple[str, str, int, str, str, str]],
    weather: dict[tuple[str, int], tuple[str, str, str]],
    shuffler: random.Random,
) -> None:
    shuffled = shuffler.sample(flights, len(flights))
    assert summarise(DAY, files(shuffled, weather)) == summarise(DAY, files(flights, weather))


def test_a_day_without_flights_is_an_error_and_not_an_empty_table() -> None:
    with pytest.raises(ValueError, match="flights of 2013-02-08 has no rows"):
        summarise(DAY, files([], {}))
