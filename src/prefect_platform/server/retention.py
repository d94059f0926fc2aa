"""Delete old rows from the server's database that Prefect's own vacuum never deletes.

The vacuum deletes finished top-level flow runs, their leftovers, and events. This program deletes
everything else that grows without bound; see docs/operations/retention.md. It does not import
Prefect, whose tables it knows by name; a test compares them with those of the installed version.
"""

import argparse
import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]

from prefect_platform import container
from prefect_platform.container import NotYet
from prefect_platform.errors import PlatformError
from prefect_platform.server import database
from prefect_platform.server.database import DatabaseTarget, Revisions

# The number is arbitrary; it only has to be the same for every sweep of a database.
_SWEEP_LOCK = 0x5357454550
# Rows per statement. Deleting one row may cascade to a hundred others (its states and task runs).
_BATCH = 500
# How long to wait for rows that another transaction has locked; the next sweep deletes those.
_LOCK_TIMEOUT = "5s"
_CONTENTION = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

TERMINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
_ENDED = f"state_type IN {TERMINAL}"
_NOT_ENDED = f"({_ENDED}) IS NOT TRUE"
# A task run is deleted with its flow run, so only those without one, or with one that has not
# ended, are deleted by themselves.
_LEFT_ALONE = f"""(this.flow_run_id IS NULL OR EXISTS (SELECT FROM flow_run
    WHERE flow_run.id = this.flow_run_id AND (flow_run.{_ENDED}) IS NOT TRUE))"""
# The row of a running flow need not change, so heartbeats, task events and logs count as activity.
_SILENT = """
    coalesce(this.next_scheduled_start_time, this.expected_start_time, this.state_timestamp) < $2
    AND NOT EXISTS (SELECT FROM event_resources
        WHERE resource_id = 'prefect.{kind}-run.' || this.id AND occurred >= $2)
    AND NOT EXISTS (SELECT FROM log WHERE log.{kind}_run_id = this.id AND log.timestamp >= $2)"""

Age = Literal["flow_runs", "unfinished_runs", "logs", "artifacts"]


@dataclass(frozen=True)
class RowKind:
    """Rows of one table that are deleted once the column `since` is older than the period `age`.

    The table is read in the order of `since`, so that column needs an index unless the table is
    small. `condition` is an SQL condition on the row, named `this`; $2 is the time before which a
    row is old.
    """

    table: str
    name: str
    age: Age
    since: str
    condition: str = "true"


# Referring rows come before the rows they refer to. Otherwise a sweep would delete some of them by
# cascade, and a dry run would count more than a sweep deletes.
KINDS = (
    # Written when a client sets a state with a cache key; Prefect never deletes it.
    RowKind(
        "task_run_state_cache",
        "stale",
        "flow_runs",
        "updated",
        "cache_expiration < now() OR NOT EXISTS "
        "(SELECT FROM task_run_state WHERE task_run_state.id = this.task_run_state_id)",
    ),
    # Prefect's vacuum deletes top-level runs, and subflows whose parent is gone.
    RowKind(
        "flow_run",
        "subflows",
        "flow_runs",
        "end_time",
        f"parent_task_run_id IS NOT NULL AND {_ENDED}",
    ),
    RowKind(
        "flow_run",
        "without_end_time",
        "flow_runs",
        "state_timestamp",
        f"end_time IS NULL AND {_ENDED}",
    ),
    RowKind("task_run", "ended", "flow_runs", "end_time", f"{_ENDED} AND {_LEFT_ALONE}"),
    RowKind(
        "task_run",
        "without_end_time",
        "flow_runs",
        "state_timestamp",
        f"end_time IS NULL AND {_ENDED} AND {_LEFT_ALONE}",
    ),
    RowKind(
        "task_run",
        "unfinished",
        "unfinished_runs",
        "state_timestamp",
        f"this.flow_run_id IS NULL AND {_NOT_ENDED} AND {_SILENT.format(kind='task')}",
    ),
    RowKind(
        "flow_run",
        "unfinished",
        "unfinished_runs",
        "state_timestamp",
        f"{_NOT_ENDED} AND {_SILENT.format(kind='flow')}",
    ),
    RowKind("log", "old", "logs", "timestamp"),
    RowKind("artifact", "old", "artifacts", "updated"),
    # A worker is named after its pod, so each pod leaves a row behind.
    RowKind("worker", "gone", "flow_runs", "last_heartbeat_time"),
)


@dataclass(frozen=True)
class RetentionPeriods:
    """How long rows are kept; the names are those of `Age`."""

    flow_runs: timedelta
    unfinished_runs: timedelta
    logs: timedelta
    artifacts: timedelta

    def of(self, age: Age) -> timedelta:
        period: timedelta = getattr(self, age)
        return period


Counts = dict[str, dict[str, int]]


async def sweep(
    target: DatabaseTarget, periods: RetentionPeriods, *, dry_run: bool
) -> Counts | None:
    """Delete the old rows of every kind in batches; return how many, by table and kind.

    Rows that PostgreSQL deletes by cascade (states, task runs of a run) are not counted. With
    `dry_run`, rows are counted and nothing is deleted. Returns None while another sweep of this
    database is running. Raises PlatformError when the connection to the database fails; rows that
    were deleted before stay deleted.
    """
    now = datetime.now(UTC)
    counts: Counts = {}
    try:
        async with database.connected(target) as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _SWEEP_LOCK):
                return None
            for kind in KINDS:
                before = now - periods.of(kind.age)
                found = await _sweep(connection, kind, before, dry_run=dry_run)
                counts.setdefault(kind.table, {})[kind.name] = found
    except (NotYet, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise PlatformError(
            f"The sweep of {target} was interrupted: {error}; counts so far: {json.dumps(counts)}",
            next_step="the next sweep continues; if it fails too, read the database's log",
        ) from error
    return counts


async def _sweep(
    connection: asyncpg.Connection, kind: RowKind, before: datetime, *, dry_run: bool
) -> int:
    """Page through a table from its oldest row; return how many rows of `kind` were deleted."""
    page = f"""
        SELECT id, {kind.since} AS since FROM {kind.table}
        WHERE {kind.since} < $1 AND ({kind.since}, id) > ($2, $3)
        ORDER BY {kind.since}, id LIMIT {_BATCH}"""  # noqa: S608 - names of this module
    chosen = f"""
        SELECT id FROM {kind.table} AS this
        WHERE id = ANY($1::uuid[]) AND {kind.since} < $2 AND ({kind.condition})"""  # noqa: S608
    count = f"SELECT count(*) FROM ({chosen}) AS chosen"  # noqa: S608
    delete = f"""
        WITH chosen AS ({chosen} FOR UPDATE OF this SKIP LOCKED), gone AS (
            DELETE FROM {kind.table} WHERE id IN (SELECT id FROM chosen) RETURNING 1)
        SELECT count(*) FROM gone"""  # noqa: S608
    since, last, found = datetime.min.replace(tzinfo=UTC), UUID(int=0), 0
    while rows := await connection.fetch(page, before, since, last):
        last, since = rows[-1]
        ids = [row["id"] for row in rows]
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                found += await connection.fetchval(count if dry_run else delete, ids, before)
        except _CONTENTION as error:
            container.say(f"{kind.table}: {len(ids)} rows are left to the next sweep: {error}")
    return found


def main() -> None:
    """Sweep once, and print the numbers of deleted rows as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.server.retention")
    for age in RetentionPeriods.__annotations__:
        option = f"--{age.replace('_', '-')}"
        parser.add_argument(option, type=_period, required=True, metavar="SECONDS")
    parser.add_argument("--dry-run", action="store_true", help="count, and delete nothing")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    arguments = vars(parser.parse_args())
    dry_run, timeout = arguments.pop("dry_run"), arguments.pop("timeout")
    asyncio.run(_run(RetentionPeriods(**arguments), dry_run=dry_run, timeout=timeout))


async def _run(periods: RetentionPeriods, *, dry_run: bool, timeout: float) -> None:
    target = DatabaseTarget.from_environment(os.environ)
    await database.await_migrations(target, Revisions.of_installed_prefect(), timeout=timeout)
    counts = await sweep(target, periods, dry_run=dry_run)
    if counts is None:
        container.say("Another sweep is running; nothing to do")
    sys.stdout.write(f"{json.dumps({'would_delete' if dry_run else 'deleted': counts or {}})}\n")


def _period(seconds: str) -> timedelta:
    return timedelta(seconds=int(seconds))


if __name__ == "__main__":
    container.run(main)
