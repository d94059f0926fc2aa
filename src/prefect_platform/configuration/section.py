"""What the sections of a platform file have in common: mappings by name, strictly read."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from prefect_platform.configuration.resource import Declared
from prefect_platform.configuration.source import ConfigurationError, Problem, Source


class Section(BaseModel):
    """A mapping in a platform file: unknown keys are refused, docstrings describe the known."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


def each(
    source: Source, section: str, declare: Callable[[str, Any], Sequence[Declared]]
) -> list[Declared]:
    """Return what `declare` makes of each name of a section and its value.

    Raises ConfigurationError with all that is wrong: what pydantic refuses, and what `declare`
    raises itself.
    """
    entries = (source.data or {}).get(section)
    if entries is None:
        return []
    if not isinstance(entries, dict):
        raise ConfigurationError(
            [Problem(source.at(section), f"{section} is not a mapping", "write `NAME: ...` lines")]
        )
    declared: list[Declared] = []
    problems = [
        Problem(source.at(section), f"the name {name} is not text", "quote it")
        for name in entries
        if not isinstance(name, str)
    ]
    for name, value in entries.items():
        try:
            declared += declare(name, value)
        except ValidationError as error:
            problems += source.problems(error, section, name)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return declared
