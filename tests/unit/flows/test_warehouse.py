import datetime as dt
import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lib.delays import Delays
from lib.warehouse import store_in_sqlite, to_parquet

DAY = dt.date(2013, 2, 8)
NEXT_DAY = dt.date(2013, 2, 9)
STORM = Delays(DAY, "origin", "JFK", "JFK", 300, 150, 14.9, None)
CALM = Delays(NEXT_DAY, "origin", "JFK", "JFK", 290, 0, -2.5, -7.0)


def rows_in(file: Path) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT * FROM daily_delays ORDER BY day, member").fetchall()


def test_storing_a_day_again_replaces_only_the_rows_of_that_day(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.sqlite"
    store_in_sqlite(file, NEXT_DAY, [CALM])
    store_in_sqlite(file, DAY, [STORM, STORM._replace(member="EWR")])
    store_in_sqlite(file, DAY, [STORM._replace(cancelled=151)])
    assert rows_in(file) == [
        ("2013-02-08", "origin", "JFK", "JFK", 300, 151, 14.9, None),
        ("2013-02-09", "origin", "JFK", "JFK", 290, 0, -2.5, -7.0),
    ]


def test_a_day_that_cannot_be_stored_completely_keeps_its_previous_rows(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.sqlite"
    store_in_sqlite(file, DAY, [STORM])
    before = rows_in(file)
    with pytest.raises(sqlite3.IntegrityError):
        store_in_sqlite(file, DAY, [STORM._replace(cancelled=0), STORM])
    assert rows_in(file) == before


def test_parquet_holds_the_rows_with_their_types() -> None:
    table = pq.read_table(io.BytesIO(to_parquet([STORM, CALM])))
    assert [tuple(row.values()) for row in table.to_pylist()] == [STORM, CALM]
    assert str(table.schema.field("day").type) == "date32[day]"


def test_equal_rows_give_equal_bytes() -> None:
    assert to_parquet([STORM, CALM]) == to_parquet([STORM, CALM])
