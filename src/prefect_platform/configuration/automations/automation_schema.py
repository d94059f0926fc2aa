"""The JSON schema of the section `automations` for editors, derived from Prefect's own."""

from typing import Any

from prefect.server.events.schemas.automations import AutomationCore
from pydantic import BaseModel

from prefect_platform.configuration.automations.automation_models import (
    ACTIONS,
    CLIENT_DEFAULTS,
    TRIGGERS,
    fields_of,
    is_duration,
)
from prefect_platform.configuration.core.references import ID_FIELDS, REFERABLE

_NO_REFERENCE = "^(?!<deleted )"
_SHAPES = {
    shape: {
        "type": "string",
        "pattern": _NO_REFERENCE + ("[^/]+/[^/]+$" if "/" in shape else "."),
        "description": f"Name of an object that exists or is declared, as {shape}.",
    }
    for shape in {referable.shape for referable in REFERABLE.values()}
}


def json_schema() -> dict[str, Any]:
    """Return the schema of a mapping from name to automation, with `$defs` at its own root."""
    schema = _without_titles(AutomationCore.model_json_schema())
    definitions: dict[str, Any] = schema["$defs"]
    for trigger in TRIGGERS.values():
        _by_keys(definitions[trigger.__name__], trigger)
    for action in ACTIONS.values():
        definition = definitions[action.__name__]
        _by_keys(definition, action)
        definition["required"].append("type")
        if "source" in action.model_fields:
            _name_unless_inferred(definition)
    definitions["ResourceSpecification"] = _labels()
    definitions["Automation"] = {
        "type": "object",
        "properties": schema["properties"],
        "required": schema["required"],
    }
    _by_keys(definitions["Automation"], AutomationCore)
    definitions["Automation"]["properties"]["actions_on_resolve"]["maxItems"] = 0
    return {
        "type": "object",
        "description": "Automations by name.",
        "additionalProperties": {"$ref": "#/$defs/Automation"},
        "$defs": definitions,
    }


def _by_keys(definition: dict[str, Any], model: type[BaseModel]) -> None:
    """Change the schema of a model to allow exactly the keys that a file may have."""
    fields = fields_of(model)
    properties = {
        ID_FIELDS.get(name, name): _in_words(field)
        for name, field in definition["properties"].items()
        if ID_FIELDS.get(name, name) in fields
    }
    for key, property_ in properties.items():
        if is_duration(fields[key]):
            properties[key] = _duration(property_)
        elif key in ID_FIELDS.values():
            properties[key] = _name(key, optional="source" in fields)
        elif key == "match":
            properties[key] = _only(property_, {"$ref": "#/$defs/ResourceSpecification"})
        elif key == "match_related":
            one = {"$ref": "#/$defs/ResourceSpecification"}
            properties[key] = _only(property_, one, {"type": "array", "items": one})
        elif key == "threshold":
            property_["minimum"] = 1
        elif key == "triggers":
            property_["minItems"] = 1
    definition |= {
        "properties": properties,
        "additionalProperties": False,
        "required": [
            ID_FIELDS.get(name, name)
            for name in definition.get("required", [])
            if ID_FIELDS.get(name, name) in fields and name not in CLIENT_DEFAULTS
        ],
    }


def _duration(property_: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a duration: seconds, which Prefect's schema omits, or ISO 8601."""
    optional = {"type": "null"} in property_.get("anyOf", [])
    return _only(
        property_,
        {"type": "number"},
        {"type": "string", "format": "duration"},
        *([{"type": "null"}] if optional else []),
    )


def _name(word: str, *, optional: bool) -> dict[str, Any]:
    shape = _SHAPES[REFERABLE[word].shape]
    return {"anyOf": [shape, {"type": "null"}]} if optional else shape


def _name_unless_inferred(definition: dict[str, Any]) -> None:
    (word,) = definition["properties"].keys() & set(ID_FIELDS.values())
    definition["oneOf"] = [
        {
            "required": [word],
            "properties": {word: {"type": "string"}, "source": {"const": "selected"}},
        },
        {
            "required": ["source"],
            "properties": {word: {"type": "null"}, "source": {"const": "inferred"}},
        },
    ]


def _labels() -> dict[str, Any]:
    """Return the schema of labels to match: texts, references, or lists of them."""
    value = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {word: _name(word, optional=False) for word in REFERABLE},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ]
    }
    return {
        "type": "object",
        "additionalProperties": {
            "anyOf": [*value["anyOf"], {"type": "array", "items": value, "minItems": 1}]
        },
    }


def _only(property_: dict[str, Any], *alternatives: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: value for key, value in property_.items() if key in {"description", "default"}
    }
    return kept | (alternatives[0] if len(alternatives) == 1 else {"anyOf": [*alternatives]})


def _in_words(property_: dict[str, Any]) -> dict[str, Any]:
    """Return a property with the keys of the file in its description instead of id fields."""
    if "description" not in property_:
        return property_
    description = property_["description"]
    for field, word in ID_FIELDS.items():
        description = description.replace(field, word)
    return {**property_, "description": " ".join(description.split())}


def _without_titles(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the schema without the titles that pydantic generates from names."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
