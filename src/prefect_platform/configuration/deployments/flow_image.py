"""The two steps of the build of an image with flows: record the facts about them, and check them.

Both are run in the image, the second one as in a hardened pod: with its user, without a network,
and with a root file system that is read-only.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from prefect_platform import container
from prefect_platform.configuration.core.context import Offline
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source, read
from prefect_platform.configuration.deployments import prefect_yaml
from prefect_platform.configuration.deployments.flow_loader import FlowLoader
from prefect_platform.configuration.deployments.recorded_facts import NAME, RecordedFacts, record

_IMPORT_SECONDS = 5.0


def problems(source: Source, *, limit: float = _IMPORT_SECONDS) -> Iterator[str]:
    """Yield a sentence for each problem of a deployment of `source`, a prefect.yaml.

    A flow has `limit` seconds to import. Raises ConfigurationError for an invalid top level.
    """
    directory = source.path.parent.resolve()
    facts = RecordedFacts(directory / NAME, FlowLoader(directory, limit=limit, complete=True).load)
    try:
        prefect_yaml.declare(source, Offline(), facts.verified)
    except ConfigurationError as error:
        for each in error.problems:
            yield f"{_subject(source, each)}: {each.cause}; {each.fix}"


def _subject(source: Source, problem: Problem) -> str:
    """Return the deployment that has the problem, and its entrypoint."""
    for index, raw in reversed(list(enumerate(prefect_yaml.items(source)))):
        if source.at("deployments", index).line <= problem.at.line:
            return f"the deployment {raw.get('name')} ({raw.get('entrypoint')})"
    return str(problem.at)


def main() -> None:
    """Print the facts, or the problems, which end the program with 1."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.add_argument("step", choices=["record", "check"])
    parser.add_argument("file", type=Path, help="prefect.yaml")
    arguments = parser.parse_args()
    source = read(arguments.file)
    if arguments.step == "record":
        directory = source.path.parent.resolve()
        given = [raw.get("entrypoint") for raw in prefect_yaml.items(source)]
        entrypoints = dict.fromkeys(each for each in given if isinstance(each, str))
        sys.stdout.write(record(directory, entrypoints, FlowLoader(directory, complete=True).load))
        return
    found = [f"{each}\n" for each in problems(source)]
    sys.stdout.writelines(found)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    container.run(main)
