"""What platform.yaml lets the runs of a work pool use, beyond what each run needs."""

from pydantic import BaseModel, ConfigDict

_PREFIX = "work_pool_grants_"


class Grants(BaseModel):
    """Names of what runs may use; the same keys as `grants` of a work pool in platform.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    blocks: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    writable_variables: frozenset[str] = frozenset()
    deployments: frozenset[str] = frozenset()
    concurrency_limits: frozenset[str] = frozenset()


def variable_of(pool: str) -> str:
    """Return the name of the variable in which the configuration stores a pool's grants.

    Runs cannot change these variables, so the server may believe them.
    """
    return f"{_PREFIX}{pool}"


def is_of_grants(variable: str) -> bool:
    """Return whether a variable stores the grants of a pool."""
    return variable.startswith(_PREFIX)
