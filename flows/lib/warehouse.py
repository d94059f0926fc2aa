"""Store the rows of a day in PostgreSQL or SQLite, and convert them to Parquet.

Every function is idempotent: storing a day twice leaves the same data as storing it once.
"""

from __future__ import annotations

import datetime as dt
import io
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from lib.delays import Delays
from lib.refusal import NotYet

TABLE = "daily_delays"

# Valid for both databases: in PostgreSQL these are types; SQLite derives its affinities from them.
_CREATE = """
CREATE TABLE IF NOT EXISTS daily_delays (
    day date NOT NULL,
    dimension text NOT NULL,
    member text NOT NULL,
    label text NOT NULL,
    flights integer NOT NULL,
    cancelled integer NOT NULL,
    mean_departure_delay double precision,
    mean_arrival_delay double precision,
    PRIMARY KEY (day, dimension, member)
)
"""
_DELETE = "DELETE FROM daily_delays WHERE day = %s"
_INSERT = "INSERT INTO daily_delays VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"


class Server(NamedTuple):
    """A PostgreSQL database and the user who writes to it."""

    host: str
    port: int
    database: str
    user: str
    password: SecretStr

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


def store_in_sqlite(file: Path, day: dt.date, rows: Sequence[Delays]) -> None:
    """Replace the rows of `day` in one transaction; create the file and the table if missing."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(_CREATE)
        # SQLite has no date type; ISO 8601 text sorts and compares like dates.
        connection.execute(_DELETE.replace("%s", "?"), (day.isoformat(),))
        connection.executemany(
            _INSERT.replace("%s", "?"), [(row.day.isoformat(), *row[1:]) for row in rows]
        )


def store_in_postgres(server: Server, day: dt.date, rows: Sequence[Delays]) -> None:
    """Replace the rows of `day` in one transaction; create the table if missing.

    Raises NotYet when the server does not answer or refuses the user.
    """
    import psycopg

    try:
        connection = psycopg.connect(
            host=server.host,
            port=server.port,
            dbname=server.database,
            user=server.user,
            password=server.password.get_secret_value(),
            connect_timeout=10,
            application_name="etl-daily",
        )
    except psycopg.OperationalError as error:
        raise NotYet(
            f"Cannot connect to the warehouse {server}: {' '.join(str(error).split())}.",
            next_step="kubectl --namespace data get pods,services"
            " (if the password was refused, compare WAREHOUSE_PASSWORD with the Secret warehouse)",
        ) from error
    with connection, connection.cursor() as cursor:
        cursor.execute(_CREATE)
        cursor.execute(_DELETE, (day,))
        cursor.executemany(_INSERT, rows)


def to_parquet(rows: Sequence[Delays]) -> bytes:
    """Return `rows` as a Parquet file; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field("day", pa.date32(), nullable=False),
            pa.field("dimension", pa.string(), nullable=False),
            pa.field("member", pa.string(), nullable=False),
            pa.field("label", pa.string(), nullable=False),
            pa.field("flights", pa.int32(), nullable=False),
            pa.field("cancelled", pa.int32(), nullable=False),
            pa.field("mean_departure_delay", pa.float64()),
            pa.field("mean_arrival_delay", pa.float64()),
        ]
    )
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row._asdict() for row in rows], schema), file)
    return file.getvalue()
