"""Decide whether a part of the platform may send a request."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.server.database import PrefectDBInterface
from sqlalchemy.exc import SQLAlchemyError

from prefect_platform.run_identity import part_tables
from prefect_platform.run_identity.ancestry import Ancestry
from prefect_platform.run_identity.declared_names import DeclaredNames
from prefect_platform.run_identity.identity import Forbidden, Identity, Part, Unavailable
from prefect_platform.run_identity.owners import Owner, PlatformOwner, RunOwner, WorkerOwner
from prefect_platform.run_identity.part_tables import Matched
from prefect_platform.run_identity.rules import Call
from prefect_platform.run_identity.stored_grants import StoredGrants
from prefect_platform.run_identity.token_reviews import TokenReviews
from prefect_platform.run_identity.worker_credentials import WorkerCredentials

PoolOf = Callable[[UUID], Awaitable[str | None]]


class Authorization:
    """The identities of clients and what they may do, for one database.

    `reviews` makes the reviews of tokens from a function that finds the work pool of a run.
    `workers` knows the workers that have passwords.
    """

    def __init__(
        self,
        db: PrefectDBInterface,
        reviews: Callable[[PoolOf], TokenReviews],
        workers: WorkerCredentials,
    ) -> None:
        self.ancestry = Ancestry(db)
        self.workers = workers
        self._reviews = reviews(self.ancestry.pool_of)
        self._grants = StoredGrants(db)
        self._names = DeclaredNames(db)

    async def identify(self, token: str) -> Identity:
        """Return the identity that a token proves; raises Unauthorized or Unavailable."""
        with _database():
            return await self._reviews.identify(token)

    def route(self, identity: Identity, method: str, path: str) -> Matched:
        """Return the entry of the sender's table; raises Forbidden if there is none."""
        matched = part_tables.match(identity.part, method, path)
        if matched is None:
            sender = "a flow run" if identity.part is Part.RUN else identity.who
            raise Forbidden(f"{sender} may not {method} {path}")
        return matched

    def owner(self, identity: Identity) -> Owner:
        """Return whose objects the sender may touch."""
        if identity.flow_run is not None:
            return RunOwner(identity.flow_run, identity.pool, self.ancestry)
        if identity.part is Part.WORKER:
            return WorkerOwner(identity.pool, self.ancestry, self._names)
        return PlatformOwner()

    async def decide(
        self,
        identity: Identity,
        matched: Matched,
        body: Any = None,  # noqa: ANN401 - JSON
        query: Mapping[str, str] | None = None,
    ) -> None:
        """Return if the request is allowed; raises Refused."""
        with _database():
            await matched.rule(
                Call(
                    owner=self.owner(identity),
                    path=matched.path,
                    query=query or {},
                    body=body,
                    grants=await self._grants.of(identity.pool),
                    ancestry=self.ancestry,
                    names=self._names,
                )
            )


@contextmanager
def _database() -> Iterator[None]:
    """Raise Unavailable for errors of the database, as which clients try again."""
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise Unavailable(f"the database does not answer: {type(error).__name__}") from error
