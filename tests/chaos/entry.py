"""The flow of the load, which records each of its attempts in the warehouse.

The trials deploy the source of this module.
"""

import os
import time
from contextlib import AbstractContextManager, nullcontext

import psycopg
from prefect import flow, runtime
from prefect.concurrency.sync import concurrency


def _warehouse() -> "psycopg.Connection[tuple[int]]":
    return psycopg.connect(
        host=os.environ["WAREHOUSE_HOST"],
        port=os.environ["WAREHOUSE_PORT"],
        dbname=os.environ["WAREHOUSE_DATABASE"],
        user=os.environ["WAREHOUSE_USER"],
        password=os.environ["WAREHOUSE_PASSWORD"],
    )


@flow
def entry(limit: str | None, megabytes: int = 0) -> str:
    """Work for three seconds, with a slot of `limit` if one is given, and return a result."""
    slot: AbstractContextManager[None] = nullcontext()
    if limit:
        slot = concurrency(limit, strict=True)
    with slot:
        # The clock is the warehouse's, so that the times of different pods can be compared.
        insert = "INSERT INTO chaos (run_id, limited) VALUES (%s, %s) RETURNING attempt"
        with _warehouse() as warehouse:
            attempt = warehouse.execute(insert, (runtime.flow_run.id, bool(limit))).fetchone()
        held = b"x" * (megabytes * 1_000_000)
        time.sleep(3)
        del held
        finish = "UPDATE chaos SET ended = clock_timestamp() WHERE attempt = %s"
        with _warehouse() as warehouse:
            warehouse.execute(finish, attempt)
    return "done"
