"""Decide whether a flow run may send a request."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from prefect.server.database import PrefectDBInterface

from prefect_platform.run_identity import route_table
from prefect_platform.run_identity.ancestry import Ancestry
from prefect_platform.run_identity.declared_names import DeclaredNames
from prefect_platform.run_identity.identity import Forbidden, RunIdentity
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
        self.reviews = reviews(self.ancestry.pool_of)
        self._grants = StoredGrants(db)
        self._names = DeclaredNames(db)

    async def decide(
        self,
        identity: RunIdentity,
        method: str,
        path: str,
        body: Any = None,  # noqa: ANN401 - JSON
    ) -> route_table.Matched:
        """Return the route of an allowed request; raises Forbidden or NotFound."""
        matched = route_table.match(method, path)
        if matched is None:
            raise Forbidden(f"a flow run may not {method} {path}")
        grants = await self._grants.of(identity.pool)
        await matched.rule(
            Call(
                run=identity.flow_run,
                path=matched.path,
                body=body,
                grants=grants,
                ancestry=self.ancestry,
                names=self._names,
            )
        )
        return matched
