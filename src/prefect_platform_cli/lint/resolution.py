"""Follow names to what they stand for: through aliases, assignments, annotations and modules.

What is defined in the linted folders is a `Function`, a `Class`, ...; everything else is a dotted
path in which `()` stands for a call, such as `boto3.Session().client().get_object`.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prefect_platform_cli.lint import source
from prefect_platform_cli.lint.scopes import (
    Binding,
    Class,
    Declared,
    Function,
    Import,
    Module,
    Scope,
)

_TOP = (".git", "pyproject.toml", source.DEPLOYMENTS)  # where the search for modules ends
_DEEPEST = 8  # folders between a flow and the modules that it imports
_LIBRARY = "site-packages"
# The modules in which Prefect defines what it exports.
_PREFECT = {
    "prefect.flows.flow": "prefect.flow",
    "prefect.tasks.task": "prefect.task",
    "prefect.assets.materialize": "prefect.task",
    "prefect.assets.materialize.materialize": "prefect.task",
}
_DECORATORS = {"prefect.flow", "prefect.task"}


@dataclass(frozen=True)
class Folder:
    """A package without `__init__.py`, or one that is used as a path to its modules."""

    path: Path


@dataclass(frozen=True)
class Instance:
    """An object of a class."""

    of: Class


@dataclass(frozen=True)
class Method:
    """An attribute of a flow or task, such as `submit`, or of a function that becomes one."""

    function: Function
    name: str


Symbol = str | Module | Folder | Function | Class | Instance | Method
Symbols = frozenset[Symbol]
_NOTHING: Symbols = frozenset()


class Project:
    """The modules of the linted folders; those that they import are read when they are needed."""

    def __init__(self) -> None:
        self._modules: dict[Path, Module | None] = {}
        self._resolved: dict[tuple[int, int], Symbols] = {}
        self._names: dict[tuple[str, Scope], Symbols] = {}
        self._derived: dict[tuple[int, Function], Function] = {}
        self._applied: dict[Function, tuple[ast.Call, Scope]] = {}
        # Every import asks for the same files again.
        self._roots = cache(self._find_roots)
        self._top_level = cache(self._find_top_level)
        self._submodule = cache(self._find_submodule)

    def add(self, read: source.Source) -> Module:
        """Return the module of a file that has been read."""
        module = self._modules[read.path.absolute()] = Module(read)
        return module

    def module(self, path: Path) -> Module | None:
        """Return the module of a file, None when it cannot be parsed."""
        if path not in self._modules:
            try:
                self._modules[path] = Module(source.read(path))
            except (source.Unreadable, RecursionError):
                self._modules[path] = None
        return self._modules[path]

    def _find_roots(self, folder: Path) -> list[Path]:
        found: list[Path] = []
        for each in (folder, *folder.parents)[:_DEEPEST]:
            if each.name == _LIBRARY:
                break
            found.append(each)
            if any((each / name).exists() for name in _TOP):
                break
        return found

    # --- Modules ----------------------------------------------------------------------------

    def _imported(self, bound: Import, module: Module) -> Symbols:
        folder = module.source.path.absolute().parent
        start: Symbols
        if bound.level:
            for _ in range(bound.level - 1):
                folder = folder.parent
            start = frozenset({Folder(folder)})
            parts = bound.module.split(".") if bound.module else []
        else:
            first, *parts = bound.module.split(".")
            local = None if first == "prefect" else self._top_level(first, folder)
            start = frozenset({local if local is not None else first})
        for part in [*parts, *([bound.name] if bound.name else [])]:
            start = self._attributes(start, part)
        return start

    def _find_top_level(self, name: str, folder: Path) -> Symbol | None:
        for root in self._roots(folder):
            if found := self._submodule(root, name):
                return found
        return None

    def _find_submodule(self, folder: Path, name: str) -> Symbol | None:
        for path in (folder / name / "__init__.py", folder / f"{name}.py"):
            if path.is_file():
                return self.module(path)
        inner = folder / name
        # A folder of data or of another kind of project is no package.
        if inner.is_dir() and any((*inner.glob("*.py"), *inner.glob("*/__init__.py"))):
            return Folder(inner)
        return None

    # --- Expressions ------------------------------------------------------------------------

    def resolve(self, expression: ast.expr, scope: Scope) -> Symbols:
        """Return everything that `expression` may stand for; empty when it is unknown."""
        key = (id(expression), id(scope))
        if key not in self._resolved:
            self._resolved[key] = _NOTHING  # for an expression that refers to itself
            self._resolved[key] = self._resolve(expression, scope)
        return self._resolved[key]

    def _resolve(self, expression: ast.expr, scope: Scope) -> Symbols:  # noqa: PLR0911 - a table
        match expression:
            case ast.Name():
                return self._name(expression.id, scope)
            case ast.Attribute():
                return self._attributes(self.resolve(expression.value, scope), expression.attr)
            case ast.Call():
                return self._call(expression, scope)
            case ast.Await() | ast.NamedExpr():
                return self.resolve(expression.value, scope)
            case ast.IfExp():
                return self.resolve(expression.body, scope) | self.resolve(expression.orelse, scope)
            case ast.BoolOp():
                return _union(self.resolve(each, scope) for each in expression.values)
        return _NOTHING

    def _name(self, name: str, scope: Scope) -> Symbols:
        current: Scope | None = scope
        while current is not None:
            # A class's names are not visible in its methods.
            if name in current.names and (current is scope or current.of_class is None):
                if name == "self" and current.parent and (owner := current.parent.of_class):
                    return frozenset({Instance(owner)})
                return self._named(name, current)
            current = current.parent
        return frozenset({f"builtins.{name}"}) if hasattr(builtins, name) else _NOTHING

    def _named(self, name: str, owner: Scope) -> Symbols:
        key = (name, owner)
        if key not in self._names:
            self._names[key] = _NOTHING  # for modules that import the name from each other
            self._names[key] = _union(self._bound(each, owner) for each in owner.names[name])
        return self._names[key]

    def _bound(self, bound: Binding, scope: Scope) -> Symbols:
        match bound:
            case Import():
                return self._imported(bound, scope.module)
            case Declared():
                return self._instances(bound.annotation, scope)
            case Function() | Class():
                return frozenset({bound})
            case ast.expr():
                return self.resolve(bound, scope)
        return _NOTHING

    def _instances(self, annotation: ast.expr, scope: Scope) -> Symbols:  # noqa: PLR0911
        """Return the objects that an annotation allows."""
        match annotation:
            case ast.Constant(value=str(text)):
                try:
                    return self._instances(ast.parse(text, mode="eval").body, scope)
                except (SyntaxError, ValueError, RecursionError):
                    return _NOTHING
            case ast.BinOp(op=ast.BitOr()):
                return self._instances(annotation.left, scope) | self._instances(
                    annotation.right, scope
                )
            case ast.Subscript(value=name, slice=inner):
                if not self.resolve(name, scope) & {"typing.Optional", "typing.Annotated"}:
                    return _NOTHING
                first = inner.elts[0] if isinstance(inner, ast.Tuple) and inner.elts else inner
                return self._instances(first, scope)
        meaning = self.definition(annotation, scope)
        if meaning is not None and isinstance(meaning[0], ast.BinOp):  # an alias of a union
            return self._instances(*meaning)
        return _union(map(self._called, self.resolve(annotation, scope)))

    def definition(self, expression: ast.expr, scope: Scope) -> tuple[ast.expr, Scope] | None:
        """Return the one expression whose value `expression` is, and its scope; None if unclear."""
        for _ in range(_DEEPEST):
            if isinstance(expression, ast.Name):
                found = self._only_binding(expression.id, scope)
            elif isinstance(expression, ast.Attribute):
                modules = [
                    each
                    for each in self.resolve(expression.value, scope)
                    if isinstance(each, Module)
                ]
                found = (
                    self._only_binding(expression.attr, modules[0].scope)
                    if len(modules) == 1
                    else None
                )
            else:
                return expression, scope
            if found is None:
                return None
            expression, scope = found
        return None

    def _only_binding(
        self, name: str, scope: Scope, hops: int = _DEEPEST
    ) -> tuple[ast.expr, Scope] | None:
        current: Scope | None = scope
        while current is not None and name not in current.names:
            current = current.parent
        bound = [] if current is None else current.names[name]
        values = [each for each in bound if not isinstance(each, Declared)]
        if current is None or len(values) != 1:
            return None
        if isinstance(values[0], ast.expr):
            return values[0], current
        if isinstance(values[0], Import) and values[0].name and hops:
            origin = Import(values[0].module, values[0].level)
            # Resolves to the module that is imported from, not to the top of its path.
            for module in self._imported(origin, current.module):
                if isinstance(module, Module):
                    return self._only_binding(values[0].name, module.scope, hops - 1)
        return None

    def constant(self, expression: ast.expr, scope: Scope) -> object:
        """Return the literal value of `expression`, or `...` when it is not a literal."""
        found = self.definition(expression, scope)
        if found is None:
            return ...
        try:
            return ast.literal_eval(found[0])
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return ...

    # --- Attributes and calls ---------------------------------------------------------------

    def _attributes(self, symbols: Symbols, name: str) -> Symbols:
        return _union(self._attribute(each, name) for each in symbols)

    def _attribute(self, symbol: Symbol, name: str) -> Symbols:  # noqa: PLR0911 - a table
        match symbol:
            case str():
                path = f"{symbol}.{name}"
                return frozenset({_PREFECT.get(path, path)})
            case Module():
                if name in symbol.scope.names and (found := self._named(name, symbol.scope)):
                    return found
                file = symbol.source.path.absolute()
                inner = self._submodule(file.parent, name) if file.stem == "__init__" else None
                return frozenset({inner}) if inner else _NOTHING
            case Folder():
                inner = self._submodule(symbol.path, name)
                return frozenset({inner}) if inner else _NOTHING
            case Function():
                return frozenset({Method(symbol, name)})
            case Class():
                return self._member(symbol, name, called="")
            case Instance():
                return self._member(symbol.of, name, called="()")
        return _NOTHING

    def _member(self, owner: Class, name: str, *, called: str) -> Symbols:
        if name in owner.scope.names:
            found = self._name(name, owner.scope)
            properties = [each for each in found if isinstance(each, Function) and _reads(each)]
            return _union(map(self._returned, properties)) if properties else found
        if called and name in owner.attributes:
            return _union(self.resolve(value, scope) for value, scope in owner.attributes[name])
        if {"request", "send"} & owner.scope.names.keys():
            return _NOTHING  # a client that changes what its base class does for each request
        bases = _union(self.resolve(each, owner.outer) for each in owner.node.bases)
        inherited: list[Symbols] = []
        for base in bases - {owner}:
            if isinstance(base, str):
                inherited.append(self._attribute(base + called, name))
            elif isinstance(base, Class):
                inherited.append(self._member(base, name, called=called))
        return _union(inherited)

    def _call(self, call: ast.Call, scope: Scope) -> Symbols:
        functions = self.resolve(call.func, scope)
        if call.args and (functions & _DECORATORS or self._makes_decorator(call.func, scope)):
            # `task(retries=3)(fetch)` and `task(fetch, retries=3)`
            inner = self.resolve(call.args[0], scope)
            if derived := [self._derive(f, call, scope) for f in inner if isinstance(f, Function)]:
                return frozenset(derived)
        if "sqlalchemy.create_engine" in functions and call.args:
            address = self.constant(call.args[0], scope)
            if isinstance(address, str) and address.startswith("sqlite"):
                return _NOTHING  # a file, so none of its calls uses the network
        return _union(map(self._called, functions))

    def _makes_decorator(self, function: ast.expr, scope: Scope) -> bool:
        return isinstance(function, ast.Call) and bool(
            self.resolve(function.func, scope) & _DECORATORS
        )

    def _derive(self, function: Function, call: ast.Call, scope: Scope) -> Function:
        key = (id(call), function)
        if key not in self._derived:
            made = Function(function.node, function.outer, function.scope, function.body)
            self._derived[key] = made
            inner = call.func if isinstance(call.func, ast.Call) else call
            self._applied[made] = (inner, scope)
        return self._derived[key]

    def applied(self, function: Function) -> tuple[ast.Call, Scope] | None:
        """Return the call that made a flow or task of `function` if it was not a decorator."""
        return self._applied.get(function)

    def derived(self, module: Module) -> Iterator[Function]:
        """Yield the flows and tasks that assignments of `module` make from plain functions."""
        for bound in module.scope.names.values():
            for value in bound:
                if isinstance(value, ast.Call):
                    for symbol in self.resolve(value, module.scope):
                        if isinstance(symbol, Function) and symbol in self._applied:
                            yield symbol

    def _called(self, symbol: Symbol) -> Symbols:
        match symbol:
            case str():
                return frozenset({f"{symbol}()"})
            case Class():
                return frozenset({Instance(symbol)})
            case Function():
                return self._returned(symbol)
            case Method(name="with_options"):
                return frozenset({symbol.function})
        return _NOTHING

    def _returned(self, function: Function) -> Symbols:
        found = _union(self.resolve(value, scope) for value, scope in function.body.returns)
        if not found and function.node.returns is not None:
            return self._instances(function.node.returns, function.outer)
        return found


def _reads(function: Function) -> bool:
    return any(
        isinstance(each, ast.Name) and each.id in {"property", "cached_property"}
        for each in function.node.decorator_list
    )


def _union(symbols: Iterable[Symbols]) -> Symbols:
    return _NOTHING.union(*symbols)
