"""Flows and tasks: which functions are one, and with which options."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from prefect_platform_cli.lint.resolution import Project
from prefect_platform_cli.lint.scopes import Function, Module, Scope

_KINDS = {"prefect.flow": "flow", "prefect.task": "task"}
UNKNOWN = ...
"""The value of an option that is given, but not as a literal."""


@dataclass(frozen=True)
class Run:
    """A flow or task.

    `at` is its decorator, or the call that stands for one. With `complete` false, it may have
    options that are not known here.
    """

    kind: str
    function: Function
    at: ast.expr
    options: dict[str, tuple[ast.expr, Scope]] = field(default_factory=dict)
    complete: bool = True

    @property
    def name(self) -> str:
        return self.function.node.name


class Runs:
    """Finds the flows and tasks of a project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._known: dict[Function, Run | None] = {}
        self._overridden: dict[Function, set[str | None]] = {}

    def override(self, function: Function, options: list[ast.keyword]) -> None:
        """Note that `function.with_options` is called with `options` somewhere."""
        names = {each.arg for each in options}
        self._overridden.setdefault(function, set()).update(names)

    def of(self, function: Function) -> Run | None:
        """Return the flow or task that `function` is, None for a plain function."""
        if function not in self._known:
            self._known[function] = None  # for a decorator that is decorated with itself
            self._known[function] = self._find(function)
        return self._known[function]

    def within(self, module: Module) -> Iterator[Run]:
        """Yield the flows and tasks of `module`."""
        for function in (*module.functions, *self.project.derived(module)):
            if run := self.of(function):
                yield run

    def option(self, run: Run, name: str) -> object:
        """Return the literal value of an option; None if it is not given, UNKNOWN if unclear."""
        if {name, None} & self._overridden.get(run.function, set()):
            return UNKNOWN
        if name in run.options:
            return self.project.constant(*run.options[name])
        return None if run.complete else UNKNOWN

    def _find(self, function: Function) -> Run | None:
        if applied := self.project.applied(function):
            return self._options(*applied, function, applied[0])
        for decorator in function.node.decorator_list:
            if run := self._decoration(decorator, function.outer, function, decorator):
                return run
        return None

    def _decoration(
        self, decorator: ast.expr, scope: Scope, function: Function, at: ast.expr
    ) -> Run | None:
        """Return the run that `decorator` makes of `function`; `at` is where the file says so."""
        for symbol in self.project.resolve(decorator, scope):
            if isinstance(symbol, str) and symbol in _KINDS:
                return Run(_KINDS[symbol], function, at)
            if isinstance(symbol, Function):
                return self._returned(symbol, function, at)
        found = self.project.definition(decorator, scope)
        if found is None or not isinstance(found[0], ast.Call):
            return None
        return self._options(found[0], found[1], function, at)

    def _options(
        self, call: ast.Call, scope: Scope, function: Function, at: ast.expr
    ) -> Run | None:
        """Return the run that `call`, such as `task(retries=3)`, makes of `function`."""
        run = self._called(call, scope, function, at)
        if run is None:
            return None
        given = {each.arg: (each.value, scope) for each in call.keywords if each.arg}
        known = all(each.arg for each in call.keywords)
        return Run(run.kind, function, at, {**run.options, **given}, run.complete and known)

    def _called(self, call: ast.Call, scope: Scope, function: Function, at: ast.expr) -> Run | None:
        """Return the run that the callee of `call` makes, without the call's own options."""
        for symbol in self.project.resolve(call.func, scope):
            if symbol == "functools.partial" and call.args:
                return self._decoration(call.args[0], scope, function, at)
            if isinstance(symbol, Function):
                run = self._returned(symbol, function, at)
                # The helper may pass its own arguments on.
                return run and Run(run.kind, function, at, run.options, complete=False)
        return self._decoration(call.func, scope, function, at)

    def _returned(self, helper: Function, function: Function, at: ast.expr) -> Run | None:
        """Return the run that a helper makes: one that returns `task(...)` or `task(...)(fn)`."""
        for value, scope in helper.body.returns:
            if isinstance(value, ast.Call):
                inner = value.func if isinstance(value.func, ast.Call) else value
                if run := self._decoration(inner, scope, function, at):
                    return run
        return None
