"""The installed block types, as their classes describe them.

A package registers its types through an entry point of the group `prefect.collections`.
"""

import inspect
import json
from abc import ABC
from collections.abc import Collection, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any, get_args

from prefect.blocks.core import Block
from prefect.plugins import load_prefect_collections
from prefect.utilities.dispatch import get_registry_for_type
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from prefect_platform.configuration.blocks import secret_fields
from prefect_platform.configuration.core.secret_values import Value, conceal

Pattern = tuple[str, ...]

# The key that gives the type of a block inside another block.
TYPE = "block_type_slug"

# A class registers itself when its module is imported.
_CORE = (
    "prefect.blocks.notifications",
    "prefect.blocks.redis",
    "prefect.blocks.system",
    "prefect.blocks.webhook",
    "prefect.filesystems",
)


def installed() -> dict[str, type[Block]]:
    """Return the class of every block type of Prefect and its packages, by the type's slug.

    Types that this process defines itself, such as the ledger, cannot be declared and are left out.
    """
    for module in _CORE:
        import_module(module)
    load_prefect_collections()
    secret_fields.remember()
    return {
        slug: block_type
        for slug, block_type in sorted((get_registry_for_type(Block) or {}).items())
        if any(f"{block_type.__module__}.".startswith(f"{home}.") for home in _homes())
    }


@cache
def _homes() -> tuple[str, ...]:
    """Return the modules below which Prefect and its packages define block types."""
    return ("prefect", *(each.module for each in entry_points(group="prefect.collections")))


@cache
def package_of(slug: str) -> str | None:
    """Return the package that provides a block type, None when Prefect knows of none."""
    published = json.loads(
        files("prefect.server").joinpath("collection_blocks_data.json").read_text()
    )
    return next(
        (
            package
            for package, content in published["collections"].items()
            if slug in content["block_types"]
        ),
        None,
    )


def fields(block_type: type[Block]) -> dict[str, Any]:
    """Return the annotation of every field, by the field's name in a block document."""
    return {
        field.alias or name: field.annotation for name, field in block_type.model_fields.items()
    }


def nested(annotation: object) -> list[type[Block]]:
    """Return the block classes that a field accepts, in the order of its annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, Block):
        return [annotation]
    return [each for part in get_args(annotation) for each in nested(part)]


def is_abstract(block_type: type[Block]) -> bool:
    """Return whether the type is abstract, so that only its subclasses have documents."""
    return ABC in block_type.__bases__


def slug(block_type: type[Block]) -> str:
    """Return the name of the type in the API and in files."""
    return str(block_type.get_block_type_slug())


def secret_patterns(schema: Mapping[str, Any]) -> set[Pattern]:
    """Return the steps to the secrets in a block schema; `*` stands for every key of a mapping."""
    return {tuple(field.split(".")) for field in schema.get("secret_fields", [])}


@cache
def own_secret_patterns(block_type: type[Block]) -> frozenset[Pattern]:
    """Return the patterns of a type's own schema."""
    return frozenset(secret_patterns(block_type.model_json_schema()))


def below(patterns: set[Pattern], step: str | int) -> set[Pattern]:
    """Return the remainder of `patterns` below a step; the empty pattern matches everything."""
    return {pattern[1:] for pattern in patterns if pattern and pattern[0] in (str(step), "*")} | {
        pattern for pattern in patterns if not pattern or isinstance(step, int)
    }


def instance(block_type: type[Block], values: Mapping[str, object]) -> Block:
    """Return the validated block without initializing it.

    Raises ValidationError, and any other exception of the type's own checks.
    """
    block = block_type.__new__(block_type)
    BaseModel.__init__(block, **values)
    return block


def saved(block: Block, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields as Prefect saves them, as JSON with the values of secrets."""
    plain: dict[str, Any] = to_jsonable_python(
        block.model_dump(
            mode="json",
            by_alias=True,
            include=set(_saved_fields(type(block)).difference(without)),
            context={"include_secrets": True},
        )
    )
    plain.pop(TYPE, None)
    return plain


@cache
def _saved_fields(block_type: type[Block]) -> frozenset[str]:
    """Return the names of the fields that Prefect saves."""
    return frozenset(block_type.model_json_schema(by_alias=False)["properties"])


def concealed(value: Value, patterns: set[Pattern]) -> Value:
    """Return `value` with each value that `patterns` match wrapped in a SecretValue."""
    if () in patterns:
        return conceal(value)
    if isinstance(value, Mapping):
        return {key: concealed(each, below(patterns, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [concealed(each, below(patterns, index)) for index, each in enumerate(value)]
    return value
