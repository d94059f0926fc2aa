"""The base class for readers, which collect all problems of one resource in a file."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from prefect_platform.configuration.core.source import Problem, Source, Step

_M = TypeVar("_M", bound=BaseModel)


class Reader:
    """Collects the problems of one resource, with their lines in the file.

    `within` are the steps to the resource in the file; the steps of all methods are relative to it.
    """

    def __init__(self, source: Source, *within: Step) -> None:
        self._source = source
        self._within = within
        self._problems: list[Problem] = []

    def _refuse(self, steps: tuple[Step, ...], cause: str, fix: str) -> None:
        """Add a problem with the value at `steps`."""
        self._problems.append(Problem(self._source.at(*self._within, *steps), cause, fix))

    def _validated(self, model: type[_M], form: object, *steps: Step) -> _M | None:
        """Return `form` as `model`; None, with the problems added, when pydantic refuses it."""
        try:
            return model.model_validate(form)
        except ValidationError as error:
            self._problems += self._source.problems(error, *self._within, *steps)
            return None
