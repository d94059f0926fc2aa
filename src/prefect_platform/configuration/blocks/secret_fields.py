"""Prefect finds out only once for each block type which of its fields contain secrets.

To return the fields of a block with their secrets, Prefect asks this for each field, and builds the
JSON schema of the block type for each answer. That is most of the time that an apply takes.
"""

from functools import cache

from prefect.blocks.core import Block

_of_type = cache(Block._field_has_secrets)


def _field_has_secrets(self: Block, field_name: str) -> bool:
    return _of_type(type(self), field_name)  # it reads nothing but the schema of the type


def remember() -> None:
    """Remember from now on what Prefect has found out; a second call changes nothing."""
    Block._field_has_secrets = _field_has_secrets  # type: ignore[method-assign]
