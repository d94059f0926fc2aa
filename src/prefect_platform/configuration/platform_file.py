"""The files of an environment, all sections of them: what they declare, and what editors know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.configuration import (
    alerts,
    blocks,
    concurrency_limits,
    variables,
    work_pools,
)
from prefect_platform.configuration.resource import Declared, ResourceType
from prefect_platform.configuration.source import ConfigurationError, Problem, Source, read
from prefect_platform.configuration.surroundings import Surroundings

SECTIONS = (
    "variables",
    "concurrency_limits",
    "tag_concurrency_limits",
    "blocks",
    "work_pools",
    "automations",
    "alerts",
)
TYPES: Sequence[ResourceType] = (
    variables.Variables(),
    concurrency_limits.ConcurrencyLimits(),
    concurrency_limits.TagConcurrencyLimits(),
    blocks.Blocks(),
    work_pools.WorkPools(),
    work_pools.WorkQueues(),
)


@dataclass(frozen=True)
class Files:
    """What is applied together: the platform's file, and the deployments of the flows."""

    platform: Path
    deployments: Path


def load(files: Files, surroundings: Surroundings) -> list[Declared]:
    """Return everything that the files declare.

    Raises ConfigurationError with all that is wrong in them, and PlatformError when one is not
    there.
    """
    source = read(files.platform)
    problems = _strangers(source)
    declared: list[Declared] = []
    sections: Sequence[Callable[[], list[Declared]]] = (
        lambda: variables.declare(source, "variables"),
        lambda: concurrency_limits.declare(source, "concurrency_limits"),
        lambda: concurrency_limits.declare_by_tag(source, "tag_concurrency_limits"),
        lambda: blocks.declare(source, "blocks", surroundings),
        lambda: work_pools.declare(source, "work_pools", surroundings),
        lambda: blocks.declare(alerts.expand(source, "alerts"), "blocks", surroundings),
    )
    for declare in sections if not problems else ():
        try:
            declared += declare()
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return declared


def _strangers(source: Source) -> list[Problem]:
    if not isinstance(source.data or {}, dict):
        return [Problem(source.at(), "the file is not a mapping", "write `SECTION:` lines")]
    return [
        Problem(
            source.at(name),
            f"there is no section {name}",
            f"the sections are {', '.join(SECTIONS)}",
        )
        for name in source.data or {}
        if name not in SECTIONS
    ]
