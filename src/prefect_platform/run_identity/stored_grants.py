"""The grants that are stored on the server."""

from typing import Any

import sqlalchemy as sa
from cachetools import TTLCache
from prefect.logging import get_logger
from prefect.server.database import PrefectDBInterface
from pydantic import ValidationError

from prefect_platform.run_identity.grants import Grants, variable_of
from prefect_platform.run_identity.identity import one_line

_SECONDS = 5.0
_logger = get_logger("server.run_identity")

_RESULTS = "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK"


class StoredGrants:
    """The grants of all pools, read from the database at most every five seconds."""

    def __init__(self, db: PrefectDBInterface) -> None:
        self._db = db
        self._recent: Any = TTLCache(1000, _SECONDS)

    async def of(self, pool: str) -> Grants:
        """Return the grants of a pool: the block of its results, and what the configuration stored.

        Runs can change neither the pool nor the variable.
        """
        known: Grants | None = self._recent.get(pool)
        if known is not None:
            return known
        pools, variables = self._db.WorkPool, self._db.Variable
        async with self._db.session_context() as session:
            template = await session.scalar(
                sa.select(pools.base_job_template).where(pools.name == pool)
            )
            stored = await session.scalar(
                sa.select(variables.value).where(variables.name == variable_of(pool))
            )
        grants = _read(pool, stored)
        results = _block_of_results(template)
        grants = grants.model_copy(update={"blocks": grants.blocks | results})
        self._recent[pool] = grants
        return grants


def _read(pool: str, stored: object) -> Grants:
    try:
        return Grants() if stored is None else Grants.model_validate(stored)
    except ValidationError as error:
        # The file was checked, so the variable was changed by hand.
        _logger.warning(
            "The variable %s is not valid, so that nothing is granted: %s",
            variable_of(pool),
            one_line(str(error)),
        )
        return Grants()


def _block_of_results(template: Any) -> frozenset[str]:  # noqa: ANN401 - a pool may have any
    """Return the block that the pool's template names, in which each run stores its results."""
    try:
        block = template["variables"]["properties"]["env"]["default"][_RESULTS]
    except (KeyError, TypeError):
        return frozenset()
    return frozenset({str(block)})
