"""Delays and cancellations of one day, by carrier, origin and the weather at departure."""

import csv
import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

Record = Mapping[str, str]


class Delays(NamedTuple):
    """Flights, cancellations and mean delays of one `member` of a `dimension` on one day.

    `dimension` is carrier, origin, wind, precipitation or visibility. Each flight of the day counts
    for exactly one member of each dimension. A mean is in minutes (negative is early) over the
    flights that departed, or arrived; it is None if there were none.
    """

    day: dt.date
    dimension: str
    member: str
    label: str
    flights: int
    cancelled: int
    mean_departure_delay: float | None
    mean_arrival_delay: float | None


def summarise(day: dt.date, files: Mapping[str, str]) -> list[Delays]:
    """Join the day's flights with the weather at their origin in their hour, and group them.

    `files` contains CSV texts by name: flights, weather, airlines. Rows are sorted by dimension and
    member, so equal input gives equal output. Raises ValueError when there are no flights.
    """
    weather = {(row["origin"], row["time_hour"]): row for row in _records(files["weather"])}
    groups: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for flight in _records(files["flights"]):
        sky = weather.get((flight["origin"], flight["time_hour"]), {})
        for membership in _memberships(flight, sky):
            groups[membership].append(flight)
    if not groups:
        raise ValueError(f"the file with the flights of {day} has no rows")
    names = {row["carrier"]: row["name"] for row in _records(files["airlines"])}
    return [
        Delays(
            day=day,
            dimension=dimension,
            member=member,
            label=names.get(member, member) if dimension == "carrier" else member,
            flights=len(flights),
            cancelled=sum(_number(flight["dep_time"]) is None for flight in flights),
            mean_departure_delay=_mean(flights, "dep_delay"),
            mean_arrival_delay=_mean(flights, "arr_delay"),
        )
        for (dimension, member), flights in sorted(groups.items())
    ]


def _memberships(flight: Record, sky: Record) -> Iterator[tuple[str, str]]:
    """Yield the dimension and member of `flight`; `sky` is empty without a weather record."""
    yield "carrier", flight["carrier"]
    yield "origin", flight["origin"]
    wind = _number(sky.get("wind_speed"))
    yield "wind", _band(wind, [(10, "under 10 mph"), (20, "10 to 20 mph")], "20 mph and more")
    # Any measured precipitation counts. The file has inches per hour, with traces as 0.
    rain = _number(sky.get("precip"))
    yield "precipitation", _band(rain, [(0.005, "dry")], "wet")
    miles = _number(sky.get("visib"))
    yield "visibility", _band(miles, [(3, "under 3 miles"), (10, "3 to 10 miles")], "10 miles")


def _band(value: float | None, bands: Sequence[tuple[float, str]], above: str) -> str:
    if value is None:
        return "unknown"
    return next((name for limit, name in bands if value < limit), above)


def _mean(flights: Sequence[Record], column: str) -> float | None:
    known = [value for flight in flights if (value := _number(flight[column])) is not None]
    return fmean(known) if known else None


def _number(text: str | None) -> float | None:
    return None if text in (None, "", "NA") else float(text)


def _records(text: str) -> Iterator[Record]:
    return csv.DictReader(text.splitlines())
