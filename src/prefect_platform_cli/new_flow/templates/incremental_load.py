"""Load the new rows of a service into the warehouse, each of them exactly once.

The watermark is the id of the last row that was loaded. It is in the same database as the rows and
changes in the same transaction, so a run that dies anywhere neither loses a row nor loads it twice.
"""

import os
from typing import Any

import httpx
import psycopg
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff
from psycopg.types.json import Jsonb

from lib.local_run import temporary_server

# The name of the watermark. The SQL below has it as the name of the table.
TABLE = "incremental_load"
PAGE = 1000  # rows of one request, and of one transaction

_CREATE = """
CREATE TABLE IF NOT EXISTS "incremental_load" (
    id bigint PRIMARY KEY,
    content jsonb NOT NULL
);
CREATE TABLE IF NOT EXISTS watermarks (
    name text PRIMARY KEY,
    last_id bigint NOT NULL
);
"""
_START = "INSERT INTO watermarks VALUES (%s, 0) ON CONFLICT DO NOTHING"
_READ = "SELECT last_id FROM watermarks WHERE name = %s"
# Changes nothing if another run has moved the watermark since these rows were requested.
_MOVE = "UPDATE watermarks SET last_id = %s WHERE name = %s AND last_id = %s"
_INSERT = 'INSERT INTO "incremental_load" VALUES (%s, %s)'


def connect() -> psycopg.Connection:
    """Return a connection to the warehouse that the environment of the job pod names."""
    return psycopg.connect(
        host=os.environ["WAREHOUSE_HOST"],
        port=int(os.environ.get("WAREHOUSE_PORT", "5432")),
        dbname=os.environ["WAREHOUSE_DATABASE"],
        user=os.environ["WAREHOUSE_USER"],
        password=os.environ["WAREHOUSE_PASSWORD"],
        connect_timeout=10,
        options="-c statement_timeout=60000",
    )


# A task that reads or writes what others change must never be replaced by a cached result.
@task(retries=3, retry_delay_seconds=exponential_backoff(10), cache_policy=NO_CACHE)
def read_watermark() -> int:
    """Return the id of the last row that was loaded, 0 before the first run."""
    with connect() as connection:
        connection.execute(_CREATE)
        connection.execute(_START, [TABLE])
        return _last_id(connection)


@task(retries=3, retry_delay_seconds=exponential_backoff(10), cache_policy=NO_CACHE)
def extract(service: str, after: int) -> list[dict[str, Any]]:
    """Return the next rows after the id `after`, ordered by their ids: adapt it to your service."""
    response = httpx.get(f"{service}/rows", params={"after": after, "limit": PAGE}, timeout=30)
    response.raise_for_status()
    rows: list[dict[str, Any]] = response.json()
    return rows


@task(retries=3, retry_delay_seconds=exponential_backoff(10), cache_policy=NO_CACHE)
def load(rows: list[dict[str, Any]], after: int) -> int:
    """Insert the rows that follow the watermark `after`, and return the new watermark.

    Nothing is inserted if the watermark is not `after` any more: an earlier attempt, or another
    run, has loaded these rows.
    """
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(_MOVE, [rows[-1]["id"], TABLE, after])
        if cursor.rowcount:
            cursor.executemany(_INSERT, [(row["id"], Jsonb(row)) for row in rows])
        return _last_id(connection)


def _last_id(connection: psycopg.Connection) -> int:
    [last_id] = connection.execute(_READ, [TABLE]).fetchone() or [0]
    return int(last_id)


@flow(name="incremental-load", log_prints=True)
def incremental_load(service: str) -> int:
    """Load all rows that are new since the last run, and return the watermark.

    Args:
        service: The address of the service, such as https://orders.example.org.
    """
    watermark = read_watermark()
    while rows := extract(service, watermark):
        watermark = load(rows, watermark)
        print(f"{len(rows)} rows are loaded, up to {watermark}")
    return watermark


if __name__ == "__main__":
    with temporary_server():
        incremental_load("http://127.0.0.1:8000")
