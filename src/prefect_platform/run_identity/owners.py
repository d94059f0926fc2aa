"""Whose objects a request may touch: those of one flow run, or of the flow runs of a work pool."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from prefect_platform.run_identity.ancestry import Ancestry
from prefect_platform.run_identity.declared_names import DeclaredNames


class Owner(Protocol):
    """Who sends a request. Each question raises NotFound for an object that does not exist."""

    @property
    def pool(self) -> str:
        """Return the work pool whose grants apply."""
        ...

    @property
    def root(self) -> UUID | None:
        """Return the flow run that the owner is, None if it is none."""
        ...

    async def owns(self, flow_run: UUID | None, *, in_pod: bool = False) -> bool:
        """Return whether a flow run is an own one; with `in_pod`, whether it runs in this pod."""
        ...

    async def has_deployment(self, deployment: UUID) -> bool:
        """Return whether own flow runs are of the deployment."""
        ...

    async def has_work_queue(self, work_queue: UUID) -> bool:
        """Return whether own flow runs are in the work queue."""
        ...

    async def is_below(self, task_run: UUID) -> bool:
        """Return whether the owner is the subflow run of the task run."""
        ...

    async def has(self, kind: str, identifier: UUID, runs: Collection[UUID]) -> bool:
        """Return whether an event about the own `runs` may name an object of a kind."""
        ...


@dataclass(frozen=True)
class RunOwner:
    """A flow run: the objects of itself and of its subflow runs."""

    root: UUID
    pool: str
    ancestry: Ancestry

    async def owns(self, flow_run: UUID | None, *, in_pod: bool = False) -> bool:
        return await self.ancestry.descends(flow_run, self.root, in_pod=in_pod)

    async def has_deployment(self, deployment: UUID) -> bool:
        return (await self.ancestry.facts(self.root)).deployment == deployment

    async def has_work_queue(self, work_queue: UUID) -> bool:
        return (await self.ancestry.facts(self.root)).work_queue == work_queue

    async def is_below(self, task_run: UUID) -> bool:
        return (await self.ancestry.facts(self.root)).parent_task_run == task_run

    async def has(self, kind: str, identifier: UUID, runs: Collection[UUID]) -> bool:
        facts = [await self.ancestry.facts(each) for each in {self.root, *runs}]
        own: dict[str, set[UUID | None]] = {
            "flow": {each.flow for each in facts},
            "deployment": {each.deployment for each in facts},
            "work-queue": {each.work_queue for each in facts},
            "work-pool": {each.work_pool for each in facts},
        }
        return identifier in own.get(kind, ())


@dataclass(frozen=True)
class WorkerOwner:
    """A worker: the objects of all flow runs of its work pool, and of their subflow runs."""

    pool: str
    ancestry: Ancestry
    names: DeclaredNames
    root: None = None

    async def owns(self, flow_run: UUID | None, *, in_pod: bool = False) -> bool:  # noqa: ARG002 - all pods of the pool are its own
        return flow_run is not None and await self.ancestry.pool_around(flow_run) == self.pool

    async def has_deployment(self, deployment: UUID) -> bool:
        return await self.names.pool_of_deployment(deployment) == self.pool

    async def has_work_queue(self, work_queue: UUID) -> bool:
        return await self.names.pool_of_work_queue(work_queue) == self.pool

    async def is_below(self, task_run: UUID) -> bool:  # noqa: ARG002 - a worker is no run
        return False

    async def has(self, kind: str, identifier: UUID, runs: Collection[UUID]) -> bool:
        match kind:
            case "flow":
                return identifier in [(await self.ancestry.facts(each)).flow for each in runs]
            case "deployment":
                return await self.has_deployment(identifier)
            case "work-queue":
                return await self.has_work_queue(identifier)
            case "work-pool":
                return await self.names.pool(identifier) == self.pool
        return False


@dataclass(frozen=True)
class PlatformOwner:
    """A part of the platform that serves all work pools. Its table alone says what it may do."""

    pool: str = ""
    root: None = None

    async def owns(self, flow_run: UUID | None, *, in_pod: bool = False) -> bool:  # noqa: ARG002
        return flow_run is not None

    async def has_deployment(self, deployment: UUID) -> bool:  # noqa: ARG002
        return True

    async def has_work_queue(self, work_queue: UUID) -> bool:  # noqa: ARG002
        return True

    async def is_below(self, task_run: UUID) -> bool:  # noqa: ARG002
        return False

    async def has(self, kind: str, identifier: UUID, runs: Collection[UUID]) -> bool:  # noqa: ARG002
        return True
