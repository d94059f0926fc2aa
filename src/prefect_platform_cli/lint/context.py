"""What every rule is given: the project, and where in it a finding is."""

import ast
from collections import defaultdict
from dataclasses import dataclass, field

from prefect_platform_cli.lint.findings import Edit, Finding, Rule
from prefect_platform_cli.lint.reach import Reach, Reached
from prefect_platform_cli.lint.resolution import Method, Project
from prefect_platform_cli.lint.runs import Run, Runs
from prefect_platform_cli.lint.scopes import Body, Function, Module, Scope
from prefect_platform_cli.lint.source import Node


@dataclass
class Context:
    """The linted modules and what is known about them together.

    `limits` are the names of the declared concurrency limits, None if no platform.yaml is known.
    `callers` are the flows that call each task.
    """

    project: Project
    runs: Runs
    reach: Reach
    limits: frozenset[str] | None = None
    callers: dict[Function, list[Run]] = field(default_factory=lambda: defaultdict(list))

    def note_options(self, module: Module) -> None:
        """Note the options that `module` gives to flows and tasks with `with_options`."""
        for body in bodies(module):
            for call, scope in body.calls:
                for symbol in self.project.resolve(call.func, scope):
                    if isinstance(symbol, Method) and symbol.name == "with_options":
                        self.runs.override(symbol.function, call.keywords)

    def note_callers(self, module: Module) -> None:
        """Note which tasks the flows of `module` call."""
        for run in self.runs.within(module):
            if run.kind != "flow":
                continue
            for reached in self.reach.every(run.function.body, self._starts_run):
                if started := self.reach.run(reached.call, reached.scope):
                    self.callers[started.function].append(run)

    def _starts_run(self, call: ast.Call, scope: Scope, _body: Body) -> str | None:
        run = self.reach.run(call, scope)
        return run.name if run else None


def bodies(module: Module) -> list[Body]:
    """Return everything in `module` that runs: on import, when started, and each function."""
    return [module.imported, module.started, *(each.body for each in module.functions)]


def finding(
    rule: Rule, module: Module, node: Node, message: str, edits: tuple[Edit, ...] = ()
) -> Finding:
    """Return a finding at `node` of `module`."""
    source = module.source
    return Finding(source.path, node.lineno, source.column(node), rule, message, edits)


def where(reached: Reached, module: Module) -> str:
    """Return the name and the place of a reached call, as seen from `module`."""
    file = reached.scope.module.source.path
    line = reached.call.lineno
    if file == module.source.path:
        return f"{reached.name} (line {line})"
    return f"{reached.name} ({file.name}:{line})"
