"""The names by which platform.yaml knows blocks, deployments and limits, from their ids."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from prefect.server.database import PrefectDBInterface

from prefect_platform.run_identity.identity import NotFound


class DeclaredNames:
    """Names of objects in the database. They can change, so nothing is remembered."""

    def __init__(self, db: PrefectDBInterface) -> None:
        self._db = db

    async def block(self, block_document: UUID) -> str:
        """Return TYPE/NAME of a block document; raises NotFound."""
        db = self._db
        return await self._name(
            sa.select(db.BlockType.slug, db.BlockDocument.name)
            .join(db.BlockType, db.BlockDocument.block_type_id == db.BlockType.id)
            .where(db.BlockDocument.id == block_document)
        )

    async def flow(self, flow: UUID) -> str:
        """Return the name of a flow; raises NotFound."""
        return await self._name(sa.select(self._db.Flow.name).where(self._db.Flow.id == flow))

    async def deployment(self, deployment: UUID) -> str:
        """Return FLOW/NAME of a deployment; raises NotFound."""
        db = self._db
        return await self._name(
            sa.select(db.Flow.name, db.Deployment.name)
            .join(db.Flow, db.Deployment.flow_id == db.Flow.id)
            .where(db.Deployment.id == deployment)
        )

    async def pool_of_deployment(self, deployment: UUID) -> str | None:
        """Return the work pool of a deployment, None if it has none."""
        db = self._db
        return await self._pool(
            sa.select(db.WorkPool.name)
            .join(db.WorkQueue, db.WorkQueue.work_pool_id == db.WorkPool.id)
            .join(db.Deployment, db.Deployment.work_queue_id == db.WorkQueue.id)
            .where(db.Deployment.id == deployment)
        )

    async def pool(self, work_pool: UUID) -> str | None:
        """Return the name of a work pool, None if there is none."""
        return await self._pool(
            sa.select(self._db.WorkPool.name).where(self._db.WorkPool.id == work_pool)
        )

    async def pool_of_work_queue(self, work_queue: UUID) -> str | None:
        """Return the work pool of a work queue, None if there is none."""
        db = self._db
        return await self._pool(
            sa.select(db.WorkPool.name)
            .join(db.WorkQueue, db.WorkQueue.work_pool_id == db.WorkPool.id)
            .where(db.WorkQueue.id == work_queue)
        )

    async def existing_limits(self, names: frozenset[str]) -> set[str]:
        """Return which of the names are those of concurrency limits."""
        query = sa.select(self._db.ConcurrencyLimitV2.name).where(
            self._db.ConcurrencyLimitV2.name.in_(names)
        )
        async with self._db.session_context() as session:
            return set((await session.execute(query)).scalars())

    async def _pool(self, query: Any) -> str | None:  # noqa: ANN401 - a query of Prefect's models
        async with self._db.session_context() as session:
            name: str | None = await session.scalar(query)
        return name

    async def _name(self, query: Any) -> str:  # noqa: ANN401 - a query of Prefect's models
        async with self._db.session_context() as session:
            row = (await session.execute(query)).first()
        if row is None:
            raise NotFound("the object does not exist")
        return "/".join(row)
