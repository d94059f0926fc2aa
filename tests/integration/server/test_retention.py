"""A sweep deletes exactly the old rows of the server's database; recent and active ones stay."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.server.database import orm_models
from prefect.server.schemas.states import TERMINAL_STATES

from prefect_platform.server import retention
from prefect_platform.server.database import DatabaseTarget
from prefect_platform.server.retention import KINDS, TERMINAL, Counts, RetentionPeriods, sweep
from prefect_platform_cli.host.paths import REPOSITORY
from tests.render.test_retention import vacuum as vacuum_settings
from tests.support.postgres import execute, postgres
from tests.support.rows import ago, rows
from tests.support.servers import clean_environment

PERIODS = RetentionPeriods(
    flow_runs=timedelta(days=90),
    unfinished_runs=timedelta(days=60),
    logs=timedelta(days=30),
    artifacts=timedelta(days=45),
)
AGES = {"flow_runs": 90, "unfinished_runs": 60, "logs": 30, "artifacts": 45}
HEARTBEAT = "prefect.flow-run.heartbeat"
DOCUMENT = REPOSITORY / "docs" / "operations" / "retention.md"


def url(target: DatabaseTarget) -> str:
    return (
        f"postgresql+asyncpg://{target.user}:{target.password}@{target.host}:{target.port}"
        f"/{target.name}"
    )


def settings(target: DatabaseTarget, home: Path, **more: str) -> dict[str, str]:
    connection = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url(target)}
    return clean_environment(home, **connection, **more)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseTarget]:
    """Return a server with a database `migrated` that Prefect's own migrations have created."""
    with postgres("owner", "password") as port:
        server = DatabaseTarget("127.0.0.1", port, "postgres", "owner", "password")
        asyncio.run(execute(server, "CREATE DATABASE migrated"))
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
            env=settings(
                DatabaseTarget("127.0.0.1", port, "migrated", "owner", "password"),
                tmp_path_factory.mktemp("home"),
            ),
            check=True,
            capture_output=True,
        )
        yield server


@pytest.fixture
def target(migrated: DatabaseTarget) -> Iterator[DatabaseTarget]:
    """Return an empty database with Prefect's tables."""
    asyncio.run(execute(migrated, "CREATE DATABASE one_test TEMPLATE migrated"))
    yield DatabaseTarget(migrated.host, migrated.port, "one_test", migrated.user, migrated.password)
    asyncio.run(execute(migrated, "DROP DATABASE one_test WITH (FORCE)"))


def counts(**expected: int) -> Counts:
    """Return the counts of a sweep: those given as table__kind, and zero for all others."""
    found: Counts = {}
    for kind in KINDS:
        number = expected.pop(f"{kind.table}__{kind.name}", 0)
        found.setdefault(kind.table, {})[kind.name] = number
    assert not expected
    return found


def test_old_rows_of_every_kind_are_deleted_and_counted_exactly_and_recent_ones_stay(
    target: DatabaseTarget,
) -> None:
    async def run() -> None:
        old: dict[str, set[UUID]] = {}
        expected = {}
        async with rows(target) as new:
            for number, kind in enumerate(KINDS, start=1):
                limit = AGES[kind.age]
                for index in range(number):
                    gone = await new.of_kind(kind.table, kind.name, limit + 0.1 + index)
                    await new.of_kind(kind.table, kind.name, limit - 0.1 - index)
                    old.setdefault(kind.table, set()).add(gone)
                expected[f"{kind.table}__{kind.name}"] = number
            before = {table: await new.ids(table) for table in old}

            assert await sweep(target, PERIODS, dry_run=True) == counts(**expected)
            assert {table: await new.ids(table) for table in old} == before

            assert await sweep(target, PERIODS, dry_run=False) == counts(**expected)
            assert {table: await new.ids(table) for table in old} == {
                table: before[table] - old[table] for table in old
            }
            assert await sweep(target, PERIODS, dry_run=False) == counts()

    asyncio.run(run())


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "SCHEDULED", "PAUSED", "CANCELLING"])
def test_an_old_unfinished_run_in_any_state_is_deleted_with_everything_that_belongs_to_it(
    target: DatabaseTarget, state: str
) -> None:
    async def run() -> None:
        async with rows(target) as new:
            flow_run = await new.flow_run(state, 61)
            await new.task_run(flow_run, "RUNNING", 61)
            await new.insert("flow_run_input", flow_run_id=flow_run, key="key", value="value")

            assert await sweep(target, PERIODS, dry_run=False) == counts(flow_run__unfinished=1)
            for table in ("flow_run", "flow_run_state", "task_run", "task_run_state"):
                assert await new.ids(table) == set()
            assert await new.ids("flow_run_input") == set()

    asyncio.run(run())


@pytest.mark.parametrize("sign", ["heartbeat", "log", "future", "task"])
def test_a_run_with_recent_activity_stays(target: DatabaseTarget, sign: str) -> None:
    async def run() -> None:
        async with rows(target) as new:
            future = {"next_scheduled_start_time": ago(-1)} if sign == "future" else {}
            flow_run = await new.flow_run("RUNNING", 400, **future)
            task_run = await new.task_run(None, "RUNNING", 400, **future)
            if sign in {"heartbeat", "task"}:
                await new.event(1, HEARTBEAT, f"prefect.flow-run.{flow_run}")
                await new.event(1, "prefect.task-run.Running", f"prefect.task-run.{task_run}")
            if sign == "log":
                await new.log(1, flow_run)
                await new.log(1, task_run_id=task_run)
            silent = await new.flow_run("RUNNING", 400)
            await new.event(61, HEARTBEAT, f"prefect.flow-run.{silent}")
            await new.log(29.9, await new.flow_run("RUNNING", 1))

            assert await sweep(target, PERIODS, dry_run=False) == counts(flow_run__unfinished=1)
            assert flow_run in await new.ids("flow_run")
            assert silent not in await new.ids("flow_run")
            assert await new.ids("task_run") == {task_run}

    asyncio.run(run())


def test_a_task_run_stays_as_long_as_its_flow_run_unless_the_flow_run_is_still_running(
    target: DatabaseTarget,
) -> None:
    async def run() -> None:
        async with rows(target) as new:
            ended, alive = await new.flow_run("COMPLETED", 80), await new.flow_run("RUNNING", 1)
            kept = {await new.task_run(ended, "COMPLETED", 95)}
            kept.add(await new.task_run(alive, "COMPLETED", 80))
            kept.add(await new.task_run(alive, "RUNNING", 95))
            await new.task_run(alive, "COMPLETED", 95)
            await new.task_run(None, "FAILED", 95)

            assert await sweep(target, PERIODS, dry_run=False) == counts(task_run__ended=2)
            assert await new.ids("task_run") == kept

    asyncio.run(run())


def test_rows_that_prefects_vacuum_deletes_are_left_to_it(target: DatabaseTarget) -> None:
    async def run() -> None:
        async with rows(target) as new:
            flow_run = await new.flow_run("COMPLETED", 400)
            await new.task_run(flow_run, "COMPLETED", 400)
            await new.event(400, HEARTBEAT, f"prefect.flow-run.{flow_run}")

            assert await sweep(target, PERIODS, dry_run=False) == counts()
            assert await new.ids("flow_run") == {flow_run}

    asyncio.run(run())


def test_prefects_vacuum_with_the_charts_settings_and_the_sweep_leave_no_old_rows(
    target: DatabaseTarget, tmp_path: Path
) -> None:
    async def write() -> dict[str, set[UUID]]:
        async with rows(target) as new:
            old, young = await new.flow_run("FAILED", 91), await new.flow_run("FAILED", 89)
            parent = await new.flow_run("COMPLETED", 91)
            await new.subflow_run(parent, "COMPLETED", 91)
            kept: dict[str, set[UUID]] = {"flow_run": {young}}
            for run in (old, parent):
                await new.task_run(run, "COMPLETED", 91)
                await new.log(1, run)
                await new.artifact(1, run, key="shared")
            kept["task_run"] = {await new.task_run(young, "COMPLETED", 89)}
            kept["log"] = {await new.log(1, young), await new.log(1)}
            await new.log(31, young)
            newest = await new.artifact(2, young, key="shared")
            kept["artifact"] = {newest}
            await new.artifact(46, young)
            await new.insert("artifact_collection", key="shared", latest_id=parent)
            kept["events"] = {
                await new.event(6, HEARTBEAT, "a"),
                await new.event(8, "prefect.flow-run.Failed", "a"),
                await new.event(89, "prefect.flow-run.Failed", "a"),
            }
            await new.event(8, HEARTBEAT, "a")
            await new.event(91, "prefect.flow-run.Failed", "a")
            return kept

    async def left(tables: list[str]) -> dict[str, set[UUID]]:
        async with rows(target) as new:
            assert len(await new.ids("event_resources")) == len(await new.ids("events"))
            assert len(await new.ids("flow_run_state")) == len(await new.ids("flow_run"))
            assert len(await new.ids("task_run_state")) == len(await new.ids("task_run"))
            (latest,) = await new.connection.fetch("SELECT latest_id FROM artifact_collection")
            assert latest["latest_id"] in await new.ids("artifact")
            return {table: await new.ids(table) for table in tables}

    kept = asyncio.run(write())
    swept = asyncio.run(sweep(target, PERIODS, dry_run=False))
    subprocess.run(
        [sys.executable, "-m", "tests.integration.server.vacuum"],
        env=settings(target, tmp_path, **vacuum_settings("server")),
        cwd=REPOSITORY,
        check=True,
    )
    # The sweep deletes the subflow because its parent still exists; if the vacuum had run first, it
    # would have deleted the parent.
    assert swept == counts(flow_run__subflows=1, log__old=1, artifact__old=1)
    assert asyncio.run(left(list(kept))) == kept
    assert asyncio.run(sweep(target, PERIODS, dry_run=False)) == counts()


def test_rows_of_the_same_time_are_all_deleted_even_if_they_exceed_a_batch(
    target: DatabaseTarget,
) -> None:
    number = 2 * retention._BATCH + 1
    moment = "now() - interval '31 days'"
    statement = (
        "INSERT INTO log (name, level, message, timestamp) "  # noqa: S608 - numbers of this test
        f"SELECT 'x', 20, 'y', {moment} FROM generate_series(1, {number})"
    )
    asyncio.run(execute(target, statement))
    assert asyncio.run(sweep(target, PERIODS, dry_run=True)) == counts(log__old=number)
    assert asyncio.run(sweep(target, PERIODS, dry_run=False)) == counts(log__old=number)


def test_a_sweep_does_nothing_while_another_one_is_running(target: DatabaseTarget) -> None:
    async def run() -> None:
        async with rows(target) as new:
            await new.log(31)
            await new.connection.execute("SELECT pg_advisory_lock($1)", retention._SWEEP_LOCK)
            assert await sweep(target, PERIODS, dry_run=False) is None
            await new.connection.execute("SELECT pg_advisory_unlock_all()")
            assert await sweep(target, PERIODS, dry_run=False) == counts(log__old=1)

    asyncio.run(run())


def test_a_locked_row_is_left_and_the_others_are_deleted(target: DatabaseTarget) -> None:
    async def run() -> None:
        async with rows(target) as new:
            held = await new.flow_run("RUNNING", 61)
            await new.flow_run("RUNNING", 61)
            async with new.connection.transaction():
                await new.connection.execute("SELECT FROM flow_run WHERE id = $1 FOR UPDATE", held)
                assert await sweep(target, PERIODS, dry_run=False) == counts(flow_run__unfinished=1)
            assert await new.ids("flow_run") == {held}
            assert await sweep(target, PERIODS, dry_run=False) == counts(flow_run__unfinished=1)

    asyncio.run(run())


def test_a_run_whose_states_are_locked_is_left_to_the_next_sweep(
    target: DatabaseTarget, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        async with rows(target) as new:
            await new.flow_run("RUNNING", 61)
            await new.log(31)
            async with new.connection.transaction():
                await new.connection.execute("SELECT FROM flow_run_state FOR UPDATE")
                assert await sweep(target, PERIODS, dry_run=False) == counts(log__old=1)
            assert "flow_run: 1 rows are left to the next sweep" in capsys.readouterr().err
            assert await sweep(target, PERIODS, dry_run=False) == counts(flow_run__unfinished=1)

    monkeypatch.setattr(retention, "_LOCK_TIMEOUT", "100ms")
    asyncio.run(run())


def test_an_expired_cache_entry_is_deleted_before_its_state(target: DatabaseTarget) -> None:
    async def run() -> None:
        async with rows(target) as new:
            await new.task_run(await new.flow_run("RUNNING", 1), "COMPLETED", 1)
            (state,) = await new.ids("task_run_state")
            await new.cached(91, state, expires=1)
            kept = {await new.cached(91, state, expires=-1), await new.cached(91, state)}

            found = await sweep(target, PERIODS, dry_run=False)
            assert found == counts(task_run_state_cache__stale=1)
            assert await new.ids("task_run_state_cache") == kept

    asyncio.run(run())


def program(target: DatabaseTarget, home: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    periods = [f"--{age.replace('_', '-')}={days * 86400}" for age, days in AGES.items()]
    return subprocess.run(
        [sys.executable, "-m", "prefect_platform.server.retention", *periods, *more],
        env=settings(target, home),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_program_prints_one_line_of_counts(target: DatabaseTarget, tmp_path: Path) -> None:
    async def write() -> None:
        async with rows(target) as new:
            await new.log(31)

    asyncio.run(write())
    for option, key, number in [("--dry-run", "would_delete", 1), ("--timeout=9", "deleted", 1)]:
        ran = program(target, tmp_path, option)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout) == {key: counts(log__old=number)}
    assert json.loads(program(target, tmp_path).stdout) == {"deleted": counts()}


def test_a_database_at_another_revision_is_not_swept(
    target: DatabaseTarget, tmp_path: Path
) -> None:
    asyncio.run(execute(target, "DELETE FROM alembic_version"))
    ran = program(target, tmp_path, "--timeout=0")

    assert ran.returncode == 1
    assert "the database is empty, but this image needs" in ran.stderr


def test_the_terminal_states_are_those_of_prefect() -> None:
    assert set(TERMINAL) == {state.value for state in TERMINAL_STATES}


def test_the_sweep_reads_only_a_small_table_without_an_index(target: DatabaseTarget) -> None:
    async def indexed() -> set[str]:
        async with rows(target) as new:
            found = await new.connection.fetch("SELECT tablename, indexdef FROM pg_indexes")
            columns = re.compile(r"\(\"?(\w+)")
            return {
                f"{row['tablename']}.{columns.search(row['indexdef'])[1]}"  # type: ignore[index]
                for row in found
                if columns.search(row["indexdef"])
            }

    read_in_order = {f"{kind.table}.{kind.since}" for kind in KINDS}
    # This table has one row per worker pod of the period, and sorting hundreds of rows is cheap.
    assert read_in_order - asyncio.run(indexed()) == {"worker.last_heartbeat_time"}


def test_the_page_lists_what_deletes_from_every_table() -> None:
    _, _, section = DOCUMENT.read_text().partition("## Who deletes from which table")
    listed = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    names = [name for cell in listed for name in re.findall(r"`(\w+)`", cell)]

    assert sorted(names) == sorted(orm_models.Base.metadata.tables)
