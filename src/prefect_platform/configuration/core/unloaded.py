"""Deployments whose flows cannot be loaded, and which are therefore left as they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prefect_platform.configuration.core.resource import Declared, Key, Kind
from prefect_platform.configuration.core.source import ConfigurationError, Problem


@dataclass(frozen=True)
class Unloaded:
    """A declared deployment whose flow cannot be loaded.

    `name` lacks the name of the flow, which only the flow itself knows.
    """

    name: str
    problem: Problem


class UnloadedFlowsError(ConfigurationError):
    """The files are valid, but some flows cannot be loaded; `declared` is everything else."""

    def __init__(self, declared: Sequence[Declared], unloaded: Sequence[Unloaded]) -> None:
        super().__init__([each.problem for each in unloaded])
        self.declared = declared
        self.unloaded = unloaded


def may_be(key: Key, unloaded: Iterable[Unloaded]) -> bool:
    """Return whether the resource may be one of these deployments, whatever its flow is."""
    name = key.name.rpartition("/")[2]
    return key.kind is Kind.DEPLOYMENT and any(each.name == name for each in unloaded)
