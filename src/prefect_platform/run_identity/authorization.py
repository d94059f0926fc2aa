"""Decide whether a flow run may send a request."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.server.database import PrefectDBInterface
from sqlalchemy.exc import SQLAlchemyError

from prefect_platform.run_identity import route_table
from prefect_platform.run_identity.ancestry import Ancestry
from prefect_platform.run_identity.declared_names import DeclaredNames
from prefect_platform.run_identity.identity import Forbidden, RunIdentity, Unavailable
from prefect_platform.run_identity.route_table import Matched
from prefect_platform.run_identity.rules import Call
from prefect_platform.run_identity.stored_grants import StoredGrants
from prefect_platform.run_identity.token_reviews import TokenReviews

PoolOf = Callable[[UUID], Awaitable[str | None]]


class Authorization:
    """The identities of runs and what they may do, for one database.

    `reviews` makes the reviews of tokens from a function that finds the work pool of a run.
    """

    def __init__(self, db: PrefectDBInterface, reviews: Callable[[PoolOf], TokenReviews]) -> None:
        self.ancestry = Ancestry(db)
        self._reviews = reviews(self.ancestry.pool_of)
        self._grants = StoredGrants(db)
        self._names = DeclaredNames(db)

    async def identify(self, token: str) -> RunIdentity:
        """Return the identity that a token proves; raises Unauthorized or Unavailable."""
        with _database():
            return await self._reviews.identify(token)

    def route(self, method: str, path: str) -> Matched:
        """Return the entry of the route table; raises Forbidden if runs may not use the route."""
        matched = route_table.match(method, path)
        if matched is None:
            raise Forbidden(f"a flow run may not {method} {path}")
        return matched

    async def decide(self, identity: RunIdentity, matched: Matched, body: Any = None) -> None:  # noqa: ANN401 - JSON
        """Return if the request is allowed; raises Refused."""
        with _database():
            await matched.rule(
                Call(
                    run=identity.flow_run,
                    path=matched.path,
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
