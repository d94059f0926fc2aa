"""Read all sections of an environment's files and return what they declare."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pydantic import ValidationError

from prefect_platform.configuration.automations import alerts
from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.order import in_order
from prefect_platform.configuration.core.resource import Declared, Key
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source, read
from prefect_platform.configuration.core.unloaded import Unloaded, UnloadedFlowsError
from prefect_platform.configuration.deployments import prefect_yaml
from prefect_platform.configuration.deployments.entrypoints import Load
from prefect_platform.configuration.deployments.flow_loader import FlowLoader
from prefect_platform.configuration.deployments.recorded_facts import RecordedFacts
from prefect_platform.configuration.kinds import SECTIONS
from prefect_platform.retention_file import RetentionFile

_ALERTS = "alerts"
_NAMES = (*(each.section for each in SECTIONS), _ALERTS)


@dataclass(frozen=True)
class Files:
    """The files that are applied together: platform.yaml and prefect.yaml.

    `retention` is only checked, because the charts apply it. It is None in a pod, where they
    already have. `flow_facts` is what the build of the pod's image recorded about the flows, and
    None elsewhere.
    """

    platform: Path
    deployments: Path
    retention: Path | None = None
    flow_facts: Path | None = None


def load(files: Files, context: Context) -> list[Declared]:
    """Return everything that the files declare.

    Raises ConfigurationError with all problems in them, its UnloadedFlowsError when they are only
    in flows, and PlatformError when a file is missing.
    """
    source = read(files.platform)
    if problems := _strangers(source):
        raise ConfigurationError(problems)
    declared: list[Declared] = []
    sources = [source]
    try:
        sources.append(alerts.expand(source, _ALERTS))
    except ConfigurationError as error:
        problems += error.problems
    for each, section in product(sources, SECTIONS):
        try:
            declared += section.declare(each, context)
        except ConfigurationError as error:
            problems += error.problems
    unloaded: Sequence[Unloaded] = ()
    try:
        declared += prefect_yaml.declare(read(files.deployments), context, _recorded(files))
    except UnloadedFlowsError as error:
        declared += error.declared
        unloaded = error.unloaded
    except ConfigurationError as error:
        problems += error.problems
    problems += _wrong_periods(files.retention) if files.retention else []
    if problems := [*problems, *_doubles(declared)]:
        raise ConfigurationError([*problems, *(each.problem for each in unloaded)])
    declared = in_order(declared)
    if unloaded:
        raise UnloadedFlowsError(declared, unloaded)
    return declared


def _recorded(files: Files) -> Load | None:
    if files.flow_facts is None:
        return None
    directory = files.deployments.parent.resolve()
    return RecordedFacts(files.flow_facts, FlowLoader(directory).load).load


def _wrong_periods(path: Path) -> list[Problem]:
    source = read(path)
    try:
        RetentionFile.model_validate({} if source.data is None else source.data)
    except ValidationError as error:
        return source.problems(error)
    return []


def _doubles(declared: Sequence[Declared]) -> list[Problem]:
    """Return a problem for each name that both the alerts and another section declare."""
    seen: dict[Key, Declared] = {}
    problems = []
    for each in declared:
        if first := seen.get(each.key):
            cause = f"the {each.key} is already declared at {first.at}"
            problems.append(Problem(each.at, cause, "rename one of the two"))
        seen[each.key] = each
    return problems


def _strangers(source: Source) -> list[Problem]:
    if not isinstance(source.data, dict | None):
        return [source.no_mapping()]
    return [
        Problem(
            source.at(name),
            f"there is no section {name}",
            f"the sections are {', '.join(_NAMES)}",
        )
        for name in source.data or {}
        if name not in _NAMES
    ]
