"""Blocks: named documents of a type that Prefect or a package defines.

A block is saved exactly as Prefect saves it, so flows, the user interface and automations can use
it. In a body, a field that contains another block is {block: TYPE/NAME}, or the fields of the inner
block with its type in `block_type_slug`. Every secret is a SecretValue.
"""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate

from prefect_platform.configuration.blocks import block_schemas, block_types
from prefect_platform.configuration.blocks.block_reader import BlockReader
from prefect_platform.configuration.blocks.block_types import TYPE, secret_patterns
from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.prefect_api import delete, pages
from prefect_platform.configuration.core.resource import (
    Body,
    Declared,
    Found,
    Inventory,
    Key,
    Kind,
    Secrets,
)
from prefect_platform.configuration.core.secret_values import Value, replaced, reveal, secret_steps
from prefect_platform.configuration.core.section import each, entries
from prefect_platform.configuration.core.source import Source

# Prefect writes these keys into an inner block that was loaded from the server.
_LOADED = ("_block_document_id", "_block_document_name", "_is_anonymous")


UNKNOWN = "unknown-secret"  # a Secret that does not exist, so apply refuses it until replaced


class Blocks:
    """Blocks, on a server and in a file.

    Use it inside `prefect_api`: Prefect's own code registers types and schemas that the server
    lacks, and it connects with Prefect's settings.
    """

    kind = Kind.BLOCK
    section = "blocks"

    def declare(self, source: Source, context: Context) -> list[Declared]:
        """Return the blocks that the section declares; raises ConfigurationError."""
        reader = BlockReader(source, self.section, entries(source, self.section), context)
        return each(source, self.section, reader.declared)

    def json_schema(self) -> dict[str, Any]:
        """Return the section's JSON schema, with all fields of all installed types."""
        return block_schemas.json_schema()

    def export(
        self, inventory: Inventory, secrets: Mapping[Key, Secrets], _context: Context
    ) -> dict[str, Any]:
        """Return the fields of each block, with references in place of secrets.

        A secret that no file has declared becomes a reference to the Secret `unknown-secret`.
        """
        return {
            found.key.name: _written(found, secrets.get(found.key, []))
            for found in inventory.of(self.kind)
        }

    def read(self, client: SyncPrefectClient, inventory: Inventory) -> list[Found]:  # noqa: ARG002
        """Return every block that is not anonymous, whether or not its type is installed."""
        types = block_types.installed()
        # Names repeat between types, so sorting by name alone would not give a stable order.
        wanted = {"include_secrets": True, "sort": "BLOCK_TYPE_AND_NAME_ASC"}
        return [_found(each, types) for each in pages(client, "/block_documents/filter", wanted)]

    def create(self, client: SyncPrefectClient, inventory: Inventory, declared: Declared) -> UUID:
        """Save the block under its name."""
        block_type, name = _type_and_name(declared.key)
        type_id, schema_id = _register(block_type)
        return client.create_block_document(
            BlockDocumentCreate(
                name=name,
                data=_data(block_type, declared.body, inventory),
                block_type_id=type_id,
                block_schema_id=schema_id,
            )
        ).id

    def update(
        self, client: SyncPrefectClient, inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Replace all fields, and set the schema to that of the installed class."""
        block_type, _ = _type_and_name(declared.key)
        _, schema_id = _register(block_type)
        client.update_block_document(
            found.id,
            BlockDocumentUpdate(
                block_schema_id=schema_id,
                data=_data(block_type, declared.body, inventory),
                merge_existing_data=False,
            ),
        )

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete the block; its type stays."""
        delete(client, "/block_documents/{id}", id=found.id)


def _found(document: Mapping[str, Any], types: Mapping[str, type[Block]]) -> Found:
    type_slug = document["block_type"]["slug"]
    block_type = types.get(type_slug)
    references = {}
    stored = _cleaned(document["data"])
    for key, reference in document["block_document_references"].items():
        inner = reference["block_document"]
        stored[key] = {**stored[key], TYPE: inner["block_type"]["slug"]}
        if not inner["is_anonymous"]:
            references[key] = f"{inner['block_type']['slug']}/{inner['name']}"
    schema = document["block_schema"]["fields"]
    patterns = secret_patterns(schema)
    body = stored
    if block_type is not None:
        patterns |= block_types.own_secret_patterns(block_type)
        # A document that its installed type does not accept is shown as stored.
        with suppress(Exception):
            complete = block_types.saved(_revived(block_type, stored, types), references)
            # Fields that an older schema lacks stay absent, so that a plan shows the difference.
            known = {*schema.get("properties", {}), *stored}
            body = {**stored, **{key: complete[key] for key in complete if key in known}}
    body |= {key: {"block": target} for key, target in references.items()}
    body.pop(TYPE, None)
    return Found(
        key=Key(Kind.BLOCK, f"{type_slug}/{document['name']}"),
        id=UUID(document["id"]),
        body=block_types.concealed(body, patterns),
    )


def _cleaned(value: Value) -> Value:
    """Return stored data without the ids that Prefect leaves in inner blocks."""
    if isinstance(value, Mapping):
        left_out = _LOADED if TYPE in value else ()
        return {key: _cleaned(each) for key, each in value.items() if key not in left_out}
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    return value


def _revived(
    block_type: type[Block], stored: Mapping[str, Any], types: Mapping[str, type[Block]]
) -> Block:
    """Return the block from stored data; inner blocks get the types that are stored with them."""
    annotations = block_types.fields(block_type)
    values = deepcopy({key: value for key, value in stored.items() if key in annotations})
    for key, value in values.items():
        inner = types.get(value[TYPE]) if isinstance(value, Mapping) and TYPE in value else None
        if inner is not None and block_types.nested(annotations[key]):
            values[key] = _revived(inner, value, types)
    return block_types.instance(block_type, values)


def _type_and_name(key: Key) -> tuple[type[Block], str]:
    type_slug, _, name = key.name.partition("/")
    return block_types.installed()[type_slug], name


def _register(block_type: type[Block]) -> tuple[UUID, UUID]:
    """Create or update the type and the schema on the server, and return their ids."""
    block_type.register_type_and_schema()
    type_id, schema_id = block_type._block_type_id, block_type._block_schema_id
    if type_id is None or schema_id is None:
        raise TypeError(f"the server returned no ids for the block type {block_type.__name__}")
    return type_id, schema_id


def _data(block_type: type[Block], body: Body, inventory: Inventory) -> dict[str, Any]:
    """Return a body in the form of the API: ids in place of names, and secrets in plain text."""
    annotations = block_types.fields(block_type)
    data: dict[str, Any] = {}
    for key, value in body.items():
        if block_types.nested(annotations.get(key)) and _names_block(value):
            target = inventory.id(Key(Kind.BLOCK, value["block"]))
            data[key] = {"$ref": {"block_document_id": str(target)}}
        else:
            data[key] = reveal(value)
    return data


def _names_block(value: object) -> bool:
    return isinstance(value, Mapping) and set(value) == {"block"}


def _written(block: Found, known: Secrets) -> Any:  # noqa: ANN401
    written: Any = block.body
    for secret in known:
        written = replaced(written, tuple(secret["at"]), partial(_instead, secret["from"]))
    for steps in sorted(secret_steps(written), key=str):
        unknown = {"secret": {"name": UNKNOWN, "key": str(steps[-1])}}
        written = replaced(written, steps, partial(_instead, unknown))
    return written


def _instead(reference: object, _value: object) -> object:
    return reference
