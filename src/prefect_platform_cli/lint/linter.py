"""Lint files: parse all of them, learn what they say about each other, then check each."""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.configuration.core import source as yaml
from prefect_platform.configuration.core.source import ConfigurationError
from prefect_platform.errors import PlatformError
from prefect_platform_cli.lint import source
from prefect_platform_cli.lint.catalogue import CHECKS
from prefect_platform_cli.lint.context import Context
from prefect_platform_cli.lint.findings import Finding
from prefect_platform_cli.lint.ignores import ignores, without_ignored
from prefect_platform_cli.lint.reach import Reach
from prefect_platform_cli.lint.resolution import Project
from prefect_platform_cli.lint.rules.deployments import Deployments
from prefect_platform_cli.lint.runs import Runs
from prefect_platform_cli.lint.scopes import Module

_LIMITS = "concurrency_limits"


@dataclass(frozen=True)
class Report:
    """The findings in `files` files by place, and the paths that cannot be linted.

    `texts` are those of the Python files, as they were linted.
    """

    files: int
    findings: Sequence[Finding]
    unreadable: Sequence[source.Unreadable]
    texts: Mapping[Path, str]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    # The collector would walk over the trees again and again, although all of them are kept.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_without_garbage_collection()
def lint(paths: Sequence[Path], limits: frozenset[str] | None = None) -> Report:
    """Lint the Python files and each prefect.yaml in and below `paths`; nothing is executed.

    `limits` are the names of the declared concurrency limits, None if they are not known.
    """
    files, unreadable = source.find(paths)
    project = Project()
    runs = Runs(project)
    context = Context(project, runs, Reach(project, runs), limits)
    checks = [check(context) for check in CHECKS]
    modules: list[Module] = []
    found: list[Finding] = []

    @contextmanager
    def reading(file: Path) -> Iterator[None]:
        try:
            yield
        except source.Unreadable as error:
            unreadable.append(error)
        except RecursionError:
            unreadable.append(source.too_deep(file))

    for file in files:
        if file.name != source.DEPLOYMENTS:
            with reading(file):
                modules.append(project.add(source.read(file)))
    for learn in (context.note_options, context.note_callers):
        for module in modules:
            with reading(module.source.path):
                learn(module)
    for module in modules:
        with reading(module.source.path):
            text = module.source.text
            own = [each for check in checks for each in check.check(module)]
            found += without_ignored(module.source.path, own, ignores(text, python=True))
    for file in files:
        if file.name == source.DEPLOYMENTS:
            with reading(file):
                found += _deployments(file, context)
    found.sort(key=lambda each: (each.path, each.line, each.column, each.rule.id))
    texts = {module.source.path: module.source.text for module in modules}
    return Report(len(files), found, list({str(each): each for each in unreadable}.values()), texts)


def _deployments(file: Path, context: Context) -> Iterator[Finding]:
    try:
        content = yaml.read(file)
    except ConfigurationError as error:
        first = error.problems[0]
        raise source.Unreadable(file, first.cause, first.at.line) from error
    except PlatformError as error:
        raise source.Unreadable(file, error.message) from error
    own = Deployments(context).check(content)
    yield from without_ignored(file, own, ignores(file.read_text(), python=False))


def declared_limits(files: Iterable[Path]) -> frozenset[str]:
    """Return the names of the concurrency limits that the files, each a platform.yaml, declare.

    Raises PlatformError for a file that cannot be read.
    """
    sections = [
        content.get(_LIMITS) for file in files if isinstance(content := yaml.read(file).data, dict)
    ]
    return frozenset(name for each in sections if isinstance(each, dict) for name in each)
