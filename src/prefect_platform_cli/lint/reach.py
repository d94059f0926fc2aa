"""What a flow, a task or a script reaches through plain functions, which run as part of it."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prefect_platform_cli.lint.resolution import Method, Project, Symbol
from prefect_platform_cli.lint.runs import Run, Runs
from prefect_platform_cli.lint.scopes import Body, Function, Scope

# Calls whose first argument, or second, is a function that they run.
_RUNS_ARGUMENT = re.compile(
    r"concurrent\.futures\.\w+\(\)\.(submit|map)|asyncio\.to_thread|anyio\.to_thread\.run_sync"
    r"|functools\.partial|builtins\.map|.*\.run_in_executor"
)
# Decorators that call the function again when it fails.
_RETRYING = re.compile(
    r"(tenacity\.retry|backoff\.on_(exception|predicate)|stamina\.retry|retrying\.retry)(\(\))?"
)


@dataclass(frozen=True)
class Reached:
    """A call that is looked for.

    `site` is the call in the body that was asked about, and `through` the function that it calls;
    both are the call itself if the body makes it directly. `retried` is whether a function on the
    way tries again.
    """

    name: str
    site: ast.Call
    call: ast.Call
    scope: Scope
    through: str | None = None
    retried: bool = False


Search = Callable[[ast.Call, Scope, Body], str | None]
"""Returns the name of a call if it is one that is looked for."""


class Reach:
    """Follows calls from body to body; it ends at flows and tasks, which are runs of their own."""

    def __init__(self, project: Project, runs: Runs) -> None:
        self.project = project
        self.runs = runs
        self._found: dict[tuple[Body, str], list[Reached]] = {}

    def calls(self, body: Body, search: Search) -> list[Reached]:
        """Return the calls that `search` names and `body` reaches, at most one for each site."""
        key = (body, search.__qualname__)
        if key not in self._found:
            self._found[key] = []  # for functions that call each other
            self._found[key] = list(self._search(body, search))
        return self._found[key]

    def _search(self, body: Body, search: Search) -> Iterator[Reached]:
        for call, scope in body.calls:
            if name := search(call, scope, body):
                yield Reached(name, call, call, scope)
                continue
            for function in self.plain(call, scope):
                if found := self.calls(function.body, search):
                    first = found[0]
                    retried = first.retried or self._retries(function)
                    yield Reached(
                        first.name, call, first.call, first.scope, function.node.name, retried
                    )
                    break

    def every(self, body: Body, search: Search) -> Iterator[Reached]:
        """Yield all calls that `search` names in every function that `body` reaches."""
        seen = {body}
        waiting = [body]
        while waiting:
            current = waiting.pop()
            for call, scope in current.calls:
                if name := search(call, scope, current):
                    yield Reached(name, call, call, scope)
                for function in self.plain(call, scope):
                    if function.body not in seen:
                        seen.add(function.body)
                        waiting.append(function.body)

    def plain(self, call: ast.Call, scope: Scope) -> Iterator[Function]:
        """Yield the functions that `call` runs here, in the same flow or task."""
        symbols = self.project.resolve(call.func, scope)
        for symbol in symbols:
            if isinstance(symbol, Function) and self.runs.of(symbol) is None:
                yield symbol
            elif isinstance(symbol, Method) and symbol.name == "fn":
                yield symbol.function
        if any(isinstance(each, str) and _RUNS_ARGUMENT.fullmatch(each) for each in symbols):
            for argument in call.args[:2]:
                for symbol in self.project.resolve(argument, scope):
                    if isinstance(symbol, Function) and self.runs.of(symbol) is None:
                        yield symbol

    def run(self, call: ast.Call, scope: Scope) -> Run | None:
        """Return the flow or task that `call` starts, also with `submit`, `map` or `delay`."""
        for symbol in self.project.resolve(call.func, scope):
            function = _started(symbol)
            if function and (run := self.runs.of(function)):
                return run
        return None

    def paths(self, call: ast.Call, scope: Scope) -> Iterator[str]:
        """Yield the dotted paths that the callee of `call` may have outside the linted folders."""
        for symbol in self.project.resolve(call.func, scope):
            if isinstance(symbol, str):
                yield symbol

    def _retries(self, function: Function) -> bool:
        return any(
            isinstance(symbol, str) and _RETRYING.fullmatch(symbol)
            for decorator in function.node.decorator_list
            for symbol in self.project.resolve(decorator, function.outer)
        )

    def retries(self, run: Run) -> bool:
        """Return whether a library tries the function of `run` again when it fails."""
        return self._retries(run.function)


def _started(symbol: Symbol) -> Function | None:
    if isinstance(symbol, Function):
        return symbol
    if isinstance(symbol, Method) and symbol.name in {"submit", "map", "delay"}:
        return symbol.function
    return None
