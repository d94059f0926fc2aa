"""Write rows of any age into Prefect's tables in a real database, as a server would."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg  # type: ignore[import-untyped]

from prefect_platform.server.database import DatabaseTarget, connected


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


class Rows:
    """A writer of rows. Ages are in days, and each method returns the ID of the new row."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.written: list[tuple[str, UUID]] = []

    async def insert(self, table: str, **columns: object) -> UUID:
        row = {"id": uuid4(), **columns}
        names = ", ".join(f'"{name}"' for name in row)
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        statement = f"INSERT INTO {table} ({names}) VALUES ({places}) RETURNING id"  # noqa: S608
        new: UUID = await self.connection.fetchval(statement, *row.values())
        self.written.append((table, new))
        return new

    async def ids(self, table: str) -> set[UUID]:
        return {row["id"] for row in await self.connection.fetch(f"SELECT id FROM {table}")}  # noqa: S608

    async def delete(self, written: Iterable[tuple[str, UUID]]) -> None:
        """Delete rows; a row that no longer exists is not an error."""
        for table, row in written:
            await self.connection.execute(f"DELETE FROM {table} WHERE id = $1", row)  # noqa: S608

    async def flow_run(self, state: str, age: float, **columns: object) -> UUID:
        """Write a run that changed its state, and ended if the state is final, `age` days ago."""
        flow = await self.insert("flow", name=str(uuid4()))
        run = await self.insert("flow_run", **{"flow_id": flow, **_run(state, age), **columns})
        await self.insert("flow_run_state", flow_run_id=run, type=state, name="State")
        return run

    async def task_run(
        self, flow_run: UUID | None, state: str, age: float, **columns: object
    ) -> UUID:
        keys = {"flow_run_id": flow_run, "task_key": "task", "dynamic_key": str(uuid4())}
        run = await self.insert("task_run", **{**keys, **_run(state, age), **columns})
        await self.insert("task_run_state", task_run_id=run, type=state, name="State")
        return run

    async def subflow_run(self, parent: UUID, state: str, age: float, **columns: object) -> UUID:
        task = await self.task_run(parent, "RUNNING", age)
        return await self.flow_run(state, age, parent_task_run_id=task, **columns)

    async def log(self, age: float, flow_run: UUID | None = None, **columns: object) -> UUID:
        return await self.insert(
            "log",
            **{"flow_run_id": flow_run, "name": "x", "level": 20, "message": "y", **columns},
            timestamp=ago(age),
        )

    async def artifact(self, age: float, flow_run: UUID | None = None, key: str = "a") -> UUID:
        return await self.insert(
            "artifact", key=key, flow_run_id=flow_run, created=ago(age), updated=ago(age)
        )

    async def event(self, age: float, name: str, resource: str) -> UUID:
        """Write an event with a single resource."""
        happened = {"occurred": ago(age), "resource_id": resource, "resource": json.dumps({})}
        event = await self.insert(
            "events",
            event=name,
            payload=json.dumps({}),
            received=ago(age),
            recorded=ago(age),
            **happened,
        )
        await self.insert("event_resources", event_id=event, resource_role="", **happened)
        return event

    async def worker(self, age: float) -> UUID:
        pool = await self.insert("work_pool", name=str(uuid4()), type="kubernetes")
        return await self.insert(
            "worker", name="pod", work_pool_id=pool, last_heartbeat_time=ago(age)
        )

    async def of_kind(self, table: str, kind: str, age: float) -> UUID:
        """Write a row that the sweep of this kind treats as `age` days old."""
        alive = await self.flow_run("RUNNING", 1)
        writes = {
            ("flow_run", "subflows"): lambda: self.subflow_run(alive, "FAILED", age),
            ("flow_run", "without_end_time"): lambda: self.flow_run("CRASHED", age, end_time=None),
            ("flow_run", "unfinished"): lambda: self.flow_run("RUNNING", age),
            ("task_run", "ended"): lambda: self.task_run(alive, "COMPLETED", age),
            ("task_run", "without_end_time"): lambda: self.task_run(
                None, "CANCELLED", age, end_time=None
            ),
            ("task_run", "unfinished"): lambda: self.task_run(None, "PENDING", age),
            ("log", "old"): lambda: self.log(age),
            ("artifact", "old"): lambda: self.artifact(age),
            ("task_run_state_cache", "stale"): lambda: self.cached(age, state=alive),
            ("worker", "gone"): lambda: self.worker(age),
        }
        return await writes[table, kind]()

    async def cached(self, age: float, state: UUID, expires: float | None = None) -> UUID:
        return await self.insert(
            "task_run_state_cache",
            cache_key="key",
            cache_expiration=None if expires is None else ago(expires),
            task_run_state_id=state,
            updated=ago(age),
        )


def _run(state: str, age: float) -> dict[str, object]:
    ended = state in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
    return {
        "name": "run",
        "state_type": state,
        "state_name": state.capitalize(),
        "state_timestamp": ago(age),
        "expected_start_time": ago(age),
        "end_time": ago(age) if ended else None,
    }


@asynccontextmanager
async def rows(target: DatabaseTarget) -> AsyncIterator[Rows]:
    """Yield a writer with its own connection."""
    async with connected(target) as connection:
        yield Rows(connection)
