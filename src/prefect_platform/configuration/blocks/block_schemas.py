"""The JSON schema with which editors complete and check the blocks of a file."""

from collections.abc import Iterator, Mapping
from typing import Any

from prefect.blocks.core import Block

from prefect_platform.configuration.blocks import block_types
from prefect_platform.configuration.core.secret_values import Value


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the section `blocks`, for editors; it contains no `$ref`."""
    return {
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {
            f"^{name}/[a-z0-9-]+$": _block(block_type)
            for name, block_type in block_types.installed().items()
        },
    }


_REFERENCE = {
    "oneOf": [
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["secret"],
            "properties": {
                "secret": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name", "key"],
                    "properties": {"name": {"type": "string"}, "key": {"type": "string"}},
                    "description": "A key of a Kubernetes Secret, which holds the value.",
                }
            },
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["file"],
            "properties": {
                "file": {
                    "type": "string",
                    "description": "Path, relative to this file, of a file that holds the value.",
                }
            },
        },
    ]
}


def _block(block_type: type[Block]) -> dict[str, Any]:
    schema = block_type.model_json_schema()
    definitions = schema.get("definitions", {})
    patterns = block_types.secret_patterns(schema)
    annotations = block_types.fields(block_type)
    properties = {
        name: _field_schema(
            _inlined(each, definitions), annotations.get(name), block_types.below(patterns, name)
        )
        for name, each in schema["properties"].items()
    }
    result = {"type": "object", "additionalProperties": False, "properties": properties}
    if "required" in schema:
        result["required"] = schema["required"]
    if "description" in schema:
        result["description"] = schema["description"]
    return result


def _field_schema(
    schema: dict[str, Any], annotation: object, patterns: set[block_types.Pattern]
) -> dict[str, Any]:
    about: dict[str, Any] = {key: schema[key] for key in ("title", "description") if key in schema}
    options = schema.get("anyOf", [schema])
    empty = [each for each in options if each.get("type") == "null"]
    choices = [each for each in block_types.nested(annotation) if not block_types.is_abstract(each)]
    if choices:
        return {**about, "anyOf": [*_nested_schemas(choices), *empty]}
    if () in patterns:
        texts = all(each.get("type") in ("string", "null") for each in options)
        # A secret field that is not just text may be a mapping of several secrets.
        several = [] if texts else [{"type": "object", "additionalProperties": _REFERENCE}]
        return {**about, "anyOf": [_REFERENCE, *several, *empty]}
    if ("*",) in patterns:
        every = {"type": "object", "additionalProperties": _REFERENCE}
        return {**about, "anyOf": [_REFERENCE, every, *empty]}
    return {**about, "anyOf": [schema, _REFERENCE]}


def _nested_schemas(choices: list[type[Block]]) -> Iterator[dict[str, Any]]:
    slugs = "|".join(block_types.slug(each) for each in choices)
    yield {
        "type": "object",
        "additionalProperties": False,
        "required": ["block"],
        "properties": {"block": {"type": "string", "pattern": f"^({slugs})/[a-z0-9-]+$"}},
    }
    for each in choices:
        inline = _block(each)
        inline["properties"][block_types.TYPE] = {"const": block_types.slug(each)}
        yield inline


def _inlined(schema: Value, definitions: Mapping[str, Any], above: tuple[str, ...] = ()) -> Value:
    """Return a schema with each `$ref` replaced by its definition.

    Where a definition contains itself, the inner one accepts any value.
    """
    if isinstance(schema, list):
        return [_inlined(each, definitions, above) for each in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {
        key: _inlined(each, definitions, above) for key, each in schema.items() if key != "$ref"
    }
    if not isinstance(schema.get("$ref"), str):
        return rest if "$ref" not in schema else {**rest, "$ref": schema["$ref"]}
    name = schema["$ref"].rpartition("/")[2]
    if name in above:
        return rest
    return {**_inlined(definitions[name], definitions, (*above, name)), **rest}
