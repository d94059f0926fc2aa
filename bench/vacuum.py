"""Measure how fast retention deletes from a database with a million flow runs.

`python -m bench.vacuum` starts its own PostgreSQL (without fsync), fills it, and lets Prefect's
vacuum and the sweep delete old rows with the settings of the chart. For comparison, it measures in
the same run how many flow runs per second a server creates in that database. For a short run, use
`--runs 20000 --old 2000`.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]
import httpx
from rich.console import Console
from rich.table import Table

from prefect_platform.console import step
from prefect_platform.server.database import DatabaseTarget, connected
from prefect_platform.server.retention import RetentionPeriods, sweep
from prefect_platform_cli.host.paths import REPOSITORY
from tests.render.test_retention import vacuum as vacuum_settings
from tests.support.postgres import postgres
from tests.support.servers import clean_environment, free_ports

PERIODS = RetentionPeriods(*[timedelta(days=90)] * 4)
TABLES = (
    *("flow_run", "flow_run_state", "task_run", "task_run_state"),
    *("log", "event_resources", "events"),
)
_SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "8GB",
}
# One in twenty old runs is still Running, and one in twenty is Completed without an end time: the
# sweep deletes these, and Prefect's vacuum deletes the others. Each run has two states, a task run
# with two states, three log lines and two events.
_FILL = (
    "INSERT INTO flow (name) VALUES ('bench')",
    """
    CREATE TEMP TABLE made AS SELECT
        number, gen_random_uuid() AS id, gen_random_uuid() AS task,
        now() - CASE WHEN number <= {old} THEN interval '91 days' ELSE interval '1 day' END
            - random() * interval '60 days' * (number <= {old})::int AS at,
        CASE WHEN number <= {old} AND number % 20 = 0 THEN 'RUNNING' ELSE 'COMPLETED' END AS state
    FROM generate_series(1, {runs}) AS number""",
    """
    INSERT INTO flow_run (id, flow_id, name, state_type, state_name, state_timestamp, updated,
        expected_start_time, start_time, end_time)
    SELECT made.id, flow.id, 'run-' || number, state::state_type, initcap(state), at, at, at, at,
        CASE WHEN state = 'COMPLETED' AND number % 20 <> 1 OR number > {old} THEN at END
    FROM made, flow""",
    """
    INSERT INTO flow_run_state (flow_run_id, type, name, timestamp, updated)
    SELECT id, 'RUNNING'::state_type, 'Running', at - interval '1 s', at FROM made
    UNION ALL SELECT id, state::state_type, initcap(state), at, at FROM made""",
    """
    INSERT INTO task_run (id, flow_run_id, name, task_key, dynamic_key, state_type, state_name,
        state_timestamp, updated, expected_start_time, start_time, end_time)
    SELECT task, id, 'extract-' || number, 'extract', '0', 'COMPLETED', 'Completed', at, at, at, at,
        at FROM made""",
    """
    INSERT INTO task_run_state (task_run_id, type, name, timestamp, updated)
    SELECT task, 'RUNNING'::state_type, 'Running', at - interval '1 s', at FROM made
    UNION ALL SELECT task, 'COMPLETED', 'Completed', at, at FROM made""",
    """
    INSERT INTO log (name, level, flow_run_id, task_run_id, message, timestamp, updated)
    SELECT 'prefect.flow_runs', 20, id, task, 'line ' || line, at, at
    FROM made, generate_series(1, 3) AS line""",
    """
    CREATE TEMP TABLE happened AS SELECT gen_random_uuid() AS event, id, at, name
    FROM made, unnest(ARRAY['prefect.flow-run.Running', 'prefect.flow-run.heartbeat']) AS name""",
    """
    INSERT INTO events (id, event, occurred, received, recorded, updated, resource_id, resource,
        payload)
    SELECT event, name, at, at, at, at, 'prefect.flow-run.' || id,
        jsonb_build_object('prefect.resource.id', 'prefect.flow-run.' || id), '{{}}'
    FROM happened""",
    """
    INSERT INTO event_resources (event_id, occurred, updated, resource_id, resource_role, resource)
    SELECT event, at, at, 'prefect.flow-run.' || id, '', '{{}}' FROM happened""",
)


async def fill(connection: asyncpg.Connection, runs: int, old: int) -> None:
    """Write `runs` flow runs, `old` of them older than 90 days; create the indexes at the end."""
    indexes = await connection.fetch(
        """SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY($1)
        AND indexname NOT IN (SELECT conname FROM pg_constraint)""",
        TABLES,
    )
    await connection.execute("SET session_replication_role = replica")  # no foreign key checks
    for index in indexes:
        await connection.execute(f'DROP INDEX "{index["indexname"]}"')
    for statement in _FILL:
        await connection.execute(statement.format(runs=runs, old=old))
    for index in indexes:
        await connection.execute(index["indexdef"])
    await connection.execute("CREATE EXTENSION pg_stat_statements")
    await connection.execute("VACUUM ANALYZE")


async def measure(target: DatabaseTarget) -> tuple[dict[str, int], float]:
    """Return each table's rows, and the seconds of the longest statement since the last call."""
    async with connected(target) as connection:
        longest = await connection.fetchval(
            "SELECT coalesce(max(max_exec_time), 0) / 1000 FROM pg_stat_statements "
            "WHERE query ~* '^[\\s]*(select|delete|with|update)'"
        )
        found = {}
        for table in TABLES:
            found[table] = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
        await connection.execute("SELECT pg_stat_statements_reset()")
    return found, float(longest)


@contextmanager
def server(environment: dict[str, str]) -> Iterator[str]:
    """Start a Prefect server without background services; yield the address of its API."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-services"]
    started = subprocess.Popen(
        [*command, f"--port={port}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}/api"
        deadline = time.monotonic() + 120
        while started.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        yield url
    finally:
        started.terminate()
        started.wait()


async def creation_rate(url: str, seconds: float) -> float:
    """Return how many flow runs per second 16 clients create together."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        flow = (await client.post("/flows/", json={"name": f"created-{uuid4()}"})).json()["id"]
        created, start = 0, time.monotonic()

        async def create() -> None:
            nonlocal created
            while time.monotonic() < start + seconds:
                body = {"flow_id": flow, "state": {"type": "SCHEDULED"}}
                (await client.post("/flow_runs/", json=body)).raise_for_status()
                created += 1

        await asyncio.gather(*[create() for _ in range(16)])
        return created / (time.monotonic() - start)


def report(
    name: str, seconds: float, deleted: dict[str, int], longest: float, created: float
) -> None:
    """Print what was deleted, how fast, and how that compares with the rate of new runs."""
    rows, runs = sum(deleted.values()), deleted["flow_run"]
    ratio = f"{runs / seconds / created:.1f} times the rate of new runs ({created:.0f}/s)"
    table = Table("what", name, title=name, show_header=False)
    table.add_row(
        "deleted", ", ".join(f"{count:,} {each}" for each, count in deleted.items() if count)
    )
    table.add_row("duration", f"{seconds:.0f} s")
    table.add_row("rows per second", f"{rows / seconds:,.0f}")
    table.add_row("flow runs per second", f"{runs / seconds:,.0f}: {ratio}")
    table.add_row("longest statement", f"{longest:.2f} s")
    Console().print(table)


def main() -> None:
    """Fill the database, measure the server and the deletion, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument(
        "--old", type=int, default=40_000, help="number of runs older than the retention period"
    )
    parser.add_argument("--creating", type=float, default=20, metavar="SECONDS")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as home,
        postgres("prefect", "prefect", settings=_SETTINGS) as port,
    ):
        target = DatabaseTarget("127.0.0.1", port, "postgres", "prefect", "prefect")
        url = f"postgresql+asyncpg://prefect:prefect@127.0.0.1:{port}/postgres"
        environment = clean_environment(
            Path(home), PREFECT_SERVER_DATABASE_CONNECTION_URL=url, **vacuum_settings("server")
        )
        run(target, environment, arguments.runs, arguments.old, arguments.creating)


def run(
    target: DatabaseTarget, environment: dict[str, str], runs: int, old: int, creating: float
) -> None:
    """Run the benchmark in an empty database."""

    async def filled() -> None:
        async with connected(target) as connection:
            await fill(connection, runs, old)

    with step("Migrate"):
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
            env=environment,
            check=True,
            capture_output=True,
        )
    with step(f"Write {runs:,} flow runs, {old:,} of them old"):
        asyncio.run(filled())
    with step("Create flow runs through a server"), server(environment) as api:
        created = asyncio.run(creation_rate(api, creating))
    before, _ = asyncio.run(measure(target))

    for name in ("Prefect's vacuum", "the sweep"):
        with step(f"Delete by {name}"):
            start = time.monotonic()
            if name == "the sweep":
                asyncio.run(sweep(target, PERIODS, dry_run=False))
            else:
                subprocess.run(
                    [sys.executable, "-m", "tests.integration.server.vacuum"],
                    env=environment,
                    cwd=REPOSITORY,
                    check=True,
                )
            seconds = time.monotonic() - start
        after, longest = asyncio.run(measure(target))
        deleted = {table: before[table] - after[table] for table in TABLES}
        report(name, seconds, deleted, longest, created)
        before = after

    print(f"remaining flow runs older than 90 days: {asyncio.run(_old_runs(target))}")


async def _old_runs(target: DatabaseTarget) -> int:
    old = "state_timestamp < now() - interval '90 days'"
    async with connected(target) as connection:
        left: int = await connection.fetchval(f"SELECT count(*) FROM flow_run WHERE {old}")  # noqa: S608
    return left


if __name__ == "__main__":
    main()
