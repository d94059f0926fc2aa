"""Read the deployments in a prefect.yaml, with everything that `prefect deploy` would send.

Keys that `prefect deploy` ignores are refused, and so are values that it would take from the local
machine, so that a deployment is the same wherever it is declared from.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.resource import Declared, Key
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source
from prefect_platform.configuration.deployments import entrypoints
from prefect_platform.configuration.deployments.deployment_models import File
from prefect_platform.configuration.deployments.deployment_reader import (
    DeploymentReader,
    known,
    refused,
    unknown_steps,
)
from prefect_platform.configuration.deployments.entrypoints import FlowFacts


def declare(source: Source, context: Context) -> list[Declared]:
    """Return the deployments that a prefect.yaml declares; raises ConfigurationError.

    Flows are loaded from the directory of the file, which executes their modules.
    """
    data = {} if source.data is None else source.data
    problems = refused(source, data)
    try:
        file = File.model_validate(known(data))
    except ValidationError as error:
        raise ConfigurationError([*problems, *source.problems(error)]) from None
    problems += unknown_steps(source, file.pull, "pull")
    load = _loader(source.path.parent.resolve())
    declared: list[Declared] = []
    for index, raw in enumerate(file.deployments or []):
        try:
            declared.append(DeploymentReader(source, index, file.pull, load, context).declared(raw))
        except ConfigurationError as error:
            problems += error.problems
    problems += _twice(declared)
    if problems:
        raise ConfigurationError(problems)
    return declared


def _loader(directory: Path) -> Callable[[str], FlowFacts]:
    """Return a function that loads flows in `directory`, each entrypoint once."""
    loaded: dict[str, FlowFacts] = {}

    def load(entrypoint: str) -> FlowFacts:
        if entrypoint not in loaded:
            loaded[entrypoint] = entrypoints.load(directory, entrypoint)
        return loaded[entrypoint]

    return load


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
