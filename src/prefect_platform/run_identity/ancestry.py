"""Which flow runs descend from a flow run: its subflow runs, and theirs.

The parent of a run or task run never changes, so what was read once is remembered. A run that has
not started can be moved to another work pool, so its pool is read again after some minutes.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from cachetools import LRUCache, TTLCache
from prefect.server.database import PrefectDBInterface

from prefect_platform.run_identity.identity import NotFound

_REMEMBERED = 20_000
_DEEPEST = 50  # subflow runs below each other
_FACTS_SECONDS = 300.0


@dataclass(frozen=True)
class FlowRunFacts:
    """What a flow run belongs to. None where it has no such object."""

    parent_task_run: UUID | None
    flow: UUID
    deployment: UUID | None
    work_queue: UUID | None
    work_pool: UUID | None
    pool: str | None


class Ancestry:
    """Parents of the flow runs and task runs in the database."""

    def __init__(self, db: PrefectDBInterface) -> None:
        self._db = db
        self._facts: Any = TTLCache(_REMEMBERED, _FACTS_SECONDS)
        self._flow_run_of_task: Any = LRUCache(_REMEMBERED)
        self._flow_run_of_artifact: Any = LRUCache(_REMEMBERED)

    async def facts(self, flow_run: UUID) -> FlowRunFacts:
        """Return what the flow run belongs to; raises NotFound."""
        known: FlowRunFacts | None = self._facts.get(flow_run)
        if known is not None:
            return known
        db = self._db
        query = (
            sa.select(
                db.FlowRun.parent_task_run_id,
                db.FlowRun.flow_id,
                db.FlowRun.deployment_id,
                db.FlowRun.work_queue_id,
                db.WorkPool.id,
                db.WorkPool.name,
            )
            .outerjoin(db.WorkQueue, db.FlowRun.work_queue_id == db.WorkQueue.id)
            .outerjoin(db.WorkPool, db.WorkQueue.work_pool_id == db.WorkPool.id)
            .where(db.FlowRun.id == flow_run)
        )
        row = await self._row(query)
        if row is None:
            raise NotFound(f"flow run {flow_run} does not exist")
        found = FlowRunFacts(*row)
        self._facts[flow_run] = found
        return found

    async def pool_of(self, flow_run: UUID) -> str | None:
        """Return the name of the run's work pool, or None if there is no such run or pool."""
        try:
            return (await self.facts(flow_run)).pool
        except NotFound:
            return None

    async def pool_around(self, flow_run: UUID) -> str | None:
        """Return the work pool whose pod executes a flow run; raises NotFound.

        A subflow run without a deployment is executed by the pod of its parent.
        """
        current: UUID | None = flow_run
        for _ in range(_DEEPEST):
            if current is None:
                return None
            facts = await self.facts(current)
            if facts.pool or facts.deployment or facts.parent_task_run is None:
                return facts.pool
            current = await self.flow_run_of_task(facts.parent_task_run)
        return None

    async def flow_run_of_task(self, task_run: UUID) -> UUID | None:
        """Return the flow run of a task run, None if it has none; raises NotFound."""
        column, table = self._db.TaskRun.flow_run_id, self._db.TaskRun
        return await self._owner(self._flow_run_of_task, task_run, column, table.id)

    async def flow_run_of_artifact(self, artifact: UUID) -> UUID | None:
        """Return the flow run of an artifact, None if it has none; raises NotFound."""
        column, table = self._db.Artifact.flow_run_id, self._db.Artifact
        return await self._owner(self._flow_run_of_artifact, artifact, column, table.id)

    async def flow_runs_of_tasks(self, task_runs: Collection[UUID]) -> list[UUID | None]:
        """Return the flow runs of those task runs that are stored."""
        table = self._db.TaskRun
        query = sa.select(table.flow_run_id).where(table.id.in_(task_runs)).distinct()
        async with self._db.session_context() as session:
            return list((await session.execute(query)).scalars())

    async def state_type(self, flow_run: UUID) -> str | None:
        """Return the type of the run's state, which is not remembered; raises NotFound."""
        row = await self._row(
            sa.select(self._db.FlowRun.state_type).where(self._db.FlowRun.id == flow_run)
        )
        if row is None:
            raise NotFound(f"flow run {flow_run} does not exist")
        return None if row[0] is None else str(getattr(row[0], "value", row[0]))

    async def descends(self, flow_run: UUID | None, root: UUID, *, in_pod: bool = False) -> bool:
        """Return whether the flow run is `root`, or a subflow run below it; raises NotFound.

        With `in_pod`, runs of deployments count only as themselves: they have pods of their own.
        """
        for _ in range(_DEEPEST):
            if flow_run is None or flow_run == root:
                return flow_run is not None
            facts = await self.facts(flow_run)
            if facts.parent_task_run is None or (in_pod and facts.deployment is not None):
                return False
            flow_run = await self.flow_run_of_task(facts.parent_task_run)
        return False

    async def _owner(self, known: Any, key: UUID, column: Any, identifier: Any) -> UUID | None:  # noqa: ANN401 - columns of Prefect's models
        if key not in known:
            row = await self._row(sa.select(column).where(identifier == key))
            if row is None:
                raise NotFound(f"{key} does not exist")
            known[key] = row[0]
        owner: UUID | None = known[key]
        return owner

    async def _row(self, query: Any) -> Any:  # noqa: ANN401 - a query of Prefect's models
        async with self._db.session_context() as session:
            return (await session.execute(query)).first()
