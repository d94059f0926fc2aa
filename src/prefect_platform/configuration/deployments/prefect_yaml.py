"""Read the deployments in a prefect.yaml, with everything that `prefect deploy` would send.

Keys that `prefect deploy` ignores are refused, and so are values that it would take from the local
machine, so that a deployment is the same wherever it is declared from.
"""

from typing import Any

from pydantic import ValidationError

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.resource import Declared, Key
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source
from prefect_platform.configuration.core.unloaded import Unloaded, UnloadedFlowsError
from prefect_platform.configuration.deployments.deployment_models import File
from prefect_platform.configuration.deployments.deployment_reader import (
    DeploymentReader,
    known,
    refused,
    unknown_steps,
)
from prefect_platform.configuration.deployments.entrypoints import Load
from prefect_platform.configuration.deployments.flow_loader import FlowLoader


def declare(source: Source, context: Context, load: Load | None = None) -> list[Declared]:
    """Return the deployments that a prefect.yaml declares.

    Without `load`, flows are loaded from the directory of the file, which executes their modules.
    Raises ConfigurationError, and UnloadedFlowsError if nothing else is wrong.
    """
    file = _file(source)
    problems = refused(source, source.data)
    problems += unknown_steps(source, file.pull, "pull")
    load = load or FlowLoader(source.path.parent.resolve()).load
    declared: list[Declared] = []
    unloaded: list[Unloaded] = []
    for index, raw in enumerate(file.deployments or []):
        try:
            match DeploymentReader(source, index, file.pull, load, context).declared(raw):
                case Declared() as deployment:
                    declared.append(deployment)
                case deployment:
                    unloaded.append(deployment)
        except ConfigurationError as error:
            problems += error.problems
    problems += _twice(declared)
    if problems:
        raise ConfigurationError([*problems, *(each.problem for each in unloaded)])
    if unloaded:
        raise UnloadedFlowsError(declared, unloaded)
    return declared


def items(source: Source) -> list[dict[str, Any]]:
    """Return the items of `deployments`; raises ConfigurationError for an invalid top level."""
    return _file(source).deployments or []


def _file(source: Source) -> File:
    try:
        return File.model_validate(known({} if source.data is None else source.data))
    except ValidationError as error:
        raise ConfigurationError([*refused(source, source.data), *source.problems(error)]) from None


def _twice(declared: list[Declared]) -> list[Problem]:
    first: dict[Key, Declared] = {}
    return [
        Problem(
            each.at,
            f"the {each.key} is also declared at {other.at}",
            "give one of them another name",
        )
        for each in declared
        if (other := first.setdefault(each.key, each)) is not each
    ]
