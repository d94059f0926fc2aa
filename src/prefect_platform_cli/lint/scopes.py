"""The names of a module: what each is bound to, and which calls each body makes.

Nothing is resolved here. `resolution` follows the bindings from name to name.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from prefect_platform_cli.lint.source import Source


@dataclass(frozen=True)
class Import:
    """`import module`, or `from module import name` with `level` leading dots."""

    module: str
    level: int = 0
    name: str | None = None


@dataclass(frozen=True)
class Declared:
    """A parameter or variable that is known by its annotation alone."""

    annotation: ast.expr


@dataclass(eq=False)
class Scope:
    """The names that one module, class or function binds; None stands for an unknown value."""

    module: "Module"
    parent: "Scope | None" = None
    of_class: "Class | None" = None
    names: "dict[str, list[Binding]]" = field(default_factory=lambda: defaultdict(list))


@dataclass(eq=False)
class Body:
    """What runs together: a function, a module's import, or its part for the command line.

    Each call comes with the scope of its names. `unbounded` has the ids of the calls that a `while`
    repeats without a bound.
    """

    calls: list[tuple[ast.Call, Scope]] = field(default_factory=list)
    returns: list[tuple[ast.expr, Scope]] = field(default_factory=list)
    unbounded: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Function:
    """A function or method, and the scope in which its decorators are evaluated."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    outer: Scope
    scope: Scope
    body: Body

    @property
    def module(self) -> "Module":
        return self.scope.module


@dataclass(eq=False)
class Class:
    """A class; `attributes` are those that its methods assign to `self`."""

    node: ast.ClassDef
    outer: Scope
    scope: Scope
    attributes: "dict[str, list[tuple[ast.expr, Scope]]]" = field(
        default_factory=lambda: defaultdict(list)
    )


Binding = Import | Declared | Function | Class | ast.expr | None


@dataclass(eq=False)
class Module:
    """A parsed module.

    `imported` runs whenever the module is imported; `started` is below
    `if __name__ == "__main__":`, whose line is `started_at`.
    """

    source: Source
    imported: Body = field(default_factory=Body)
    started: Body = field(default_factory=Body)
    started_at: ast.If | None = None
    functions: list[Function] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Bind the names of the module."""
        self.scope = Scope(self)
        _Binder(self).statements(self.source.tree.body, self.scope, self.imported)


# Most nodes of a tree, which bind and call nothing.
_LEAVES = (ast.Name, ast.Constant, ast.expr_context, ast.operator, ast.cmpop, ast.boolop)


class _Binder:
    """Walks over a module once, in the order of its text."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._bounded_by_context = 0

    def statements(self, nodes: Iterable[ast.AST], scope: Scope, body: Body) -> None:
        for node in nodes:
            self._visit(node, scope, body)

    def _visit(self, node: ast.AST, scope: Scope, body: Body) -> None:  # noqa: PLR0911, PLR0912 - a table
        if isinstance(node, _LEAVES):
            return
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(node, scope, body)
                return
            case ast.ClassDef():
                self._class(node, scope, body)
                return
            case ast.Lambda():
                inner = Scope(self._module, scope)
                _bind_parameters(node.args, inner)
                self._visit(node.body, inner, Body())
                return
            case ast.Import():
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    scope.names[name].append(Import(alias.name if alias.asname else name))
            case ast.ImportFrom():
                for alias in node.names:
                    bound = Import(node.module or "", node.level, alias.name)
                    scope.names[alias.asname or alias.name].append(bound)
            case ast.Assign():
                for target in node.targets:
                    _bind(target, node.value, scope)
            case ast.AnnAssign():
                _bind(node.target, Declared(node.annotation), scope)
                if node.value is not None:
                    _bind(node.target, node.value, scope)
            case ast.NamedExpr():
                _bind(node.target, node.value, scope)
            case ast.AugAssign():
                _bind(node.target, None, scope)
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                _bind(node.target, None, scope)
            case ast.With() | ast.AsyncWith():
                self._with(node, scope, body)
                return
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                scope.names[name].append(None)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                scope.names[name].append(None)
            case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value):
                body.returns.append((value, scope))
            case ast.Call():
                body.calls.append((node, scope))
            case ast.While():
                self._while(node, body)
            case ast.If() if _is_type_checking(node.test):
                self.statements(node.body, scope, Body())
                self.statements(node.orelse, scope, body)
                return
            case ast.If() if scope is self._module.scope and _is_main(node.test):
                self._module.started_at = node
                self.statements(node.body, scope, self._module.started)
                self.statements(node.orelse, scope, body)
                return
        self.statements(ast.iter_child_nodes(node), scope, body)

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope, body: Body
    ) -> None:
        self.statements([*node.decorator_list, *node.args.defaults], scope, body)
        self.statements([each for each in node.args.kw_defaults if each], scope, body)
        function = Function(node, scope, Scope(self._module, scope), Body())
        _bind_parameters(node.args, function.scope)
        scope.names[node.name].append(function)
        self._module.functions.append(function)
        outside, self._bounded_by_context = self._bounded_by_context, 0
        self.statements(node.body, function.scope, function.body)
        self._bounded_by_context = outside

    def _class(self, node: ast.ClassDef, scope: Scope, body: Body) -> None:
        self.statements(
            [*node.decorator_list, *node.bases, *(each.value for each in node.keywords)],
            scope,
            body,
        )
        inner = Scope(self._module, scope)
        inner.of_class = Class(node, scope, inner)
        scope.names[node.name].append(inner.of_class)
        self.statements(node.body, inner, body)

    def _with(self, node: ast.With | ast.AsyncWith, scope: Scope, body: Body) -> None:
        bounds = any(_bounds(item.context_expr) for item in node.items)
        for item in node.items:
            self._visit(item.context_expr, scope, body)
            if item.optional_vars is not None:
                _bind(item.optional_vars, item.context_expr, scope)
        self._bounded_by_context += bounds
        self.statements(node.body, scope, body)
        self._bounded_by_context -= bounds

    def _while(self, node: ast.While, body: Body) -> None:
        inside = list(ast.walk(node))
        # A counter, a clock or an error about time: the loop has a bound of its own.
        bounded = self._bounded_by_context or any(
            isinstance(each, ast.AugAssign) or _tells_time(each) for each in inside
        )
        if not bounded:
            body.unbounded.update(id(each) for each in inside if isinstance(each, ast.Call))


_CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "time", "now", "utcnow", "TimeoutError"}
_BOUNDS = {"timeout", "timeout_at", "fail_after", "fail_at", "move_on_after", "move_on_at"}


def _tells_time(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in _CLOCKS
    return isinstance(node, ast.Name) and node.id in _CLOCKS - {"time"}


def _bounds(context: ast.expr) -> bool:
    if not isinstance(context, ast.Call):
        return False
    name = context.func
    return (isinstance(name, ast.Attribute) and name.attr in _BOUNDS) or (
        isinstance(name, ast.Name) and name.id in _BOUNDS
    )


def _bind(target: ast.expr, value: Binding, scope: Scope) -> None:
    match target:
        case ast.Name():
            scope.names[target.id].append(value)
        case ast.Tuple() | ast.List():
            for each in target.elts:
                _bind(each, None, scope)
        case ast.Starred():
            _bind(target.value, None, scope)
        case ast.Attribute(value=ast.Name(id="self")) if isinstance(value, ast.expr):
            if scope.parent is not None and scope.parent.of_class is not None:
                scope.parent.of_class.attributes[target.attr].append((value, scope))


def _bind_parameters(arguments: ast.arguments, scope: Scope) -> None:
    positional = [*arguments.posonlyargs, *arguments.args]
    for each in [*positional, *arguments.kwonlyargs]:
        scope.names[each.arg].append(Declared(each.annotation) if each.annotation else None)
    for rest in (arguments.vararg, arguments.kwarg):
        if rest is not None:
            scope.names[rest.arg].append(None)


def _is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
    return False


def _is_main(test: ast.expr) -> bool:
    match test:
        case ast.Compare(
            left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant("__main__")]
        ):
            return True
    return False
