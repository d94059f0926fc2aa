"""What the sections of a platform file have in common: they are mappings by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prefect_platform.configuration.core.resource import Declared
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source


class Section(BaseModel):
    """A mapping in a platform file: unknown keys are refused, docstrings describe the known.

    A number that JSON does not have is refused, too: it could not be sent.
    """

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False
    )


def entries(source: Source, section: str) -> dict[Any, Any]:
    """Return the mapping of a section, an empty one when the file does not have the section.

    Raises ConfigurationError when the section is not a mapping.
    """
    found = (source.data or {}).get(section)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError([source.no_mapping(section)])
    return found


def each(
    source: Source, section: str, declare: Callable[[str, Any], Sequence[Declared]]
) -> list[Declared]:
    """Call `declare` with each name of a section and its value, and return all that it declares.

    An empty value is passed as {}. Raises ConfigurationError with all problems: invalid names, and
    those that `declare` raises as ValidationError or ConfigurationError.
    """
    declared: list[Declared] = []
    problems: list[Problem] = []
    for name, value in entries(source, section).items():
        if not isinstance(name, str) or not name:
            problems.append(source.no_name(section, name))
            continue
        try:
            declared += declare(name, {} if value is None else value)
        except ValidationError as error:
            problems += source.problems(error, section, name)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return declared


def schema_by_name(model: type[BaseModel], description: str) -> dict[str, Any]:
    """Return the JSON schema of a section that is a mapping of names to `model`."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    return {
        "description": description,
        "type": "object",
        "additionalProperties": schema,
        "$defs": definitions,
    }


def without_defaults(
    model: type[BaseModel], body: Mapping[str, Any], *switches: str
) -> dict[str, Any]:
    """Return the fields that differ from the model's defaults.

    `switches` are fields whose default in the model is None (`active`, `paused`); they are left out
    when they have their usual value on the server.
    """
    usual = {"active": True, "paused": False}
    said = {name: value for name, value in body.items() if name in model.model_fields}
    for name in switches:
        if said[name] == usual[name]:
            del said[name]
    return model.model_validate(said).model_dump(mode="json", exclude_defaults=True)
