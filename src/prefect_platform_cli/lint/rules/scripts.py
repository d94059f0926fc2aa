"""Red line of scripts, and what must not happen when a flow's file is imported."""

import ast
import re
from collections.abc import Iterator

from prefect_platform_cli.lint.context import Context, finding, where
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.resolution import Method
from prefect_platform_cli.lint.rules.network import Network
from prefect_platform_cli.lint.scopes import Body, Function, Module, Scope

BARE_SCRIPT = Rule("PF001", Severity.MUST, "Work outside a flow")
AT_IMPORT = Rule("PF103", Severity.MUST, "Network calls while a flow is imported")
STARTED_BY_IMPORT = Rule("PF104", Severity.MUST, "A flow that starts when its file is imported")
RULES = (BARE_SCRIPT, AT_IMPORT, STARTED_BY_IMPORT)

_GUARD = 'if __name__ == "__main__":'
# What asks Prefect to start, serve or deploy flows.
_STARTS = re.compile(r"prefect\.(a?serve|deploy|flow\.|deployments\.|get_client|task_worker\.)")
_NO_SCRIPTS = ("__init__", "__main__", "conftest")


class Scripts:
    """Finds what runs outside flows: in a script, or on import."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._network = Network(context)

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of these rules in `module`."""
        yield from self._script(module)
        yield from self._import(module)

    def _script(self, module: Module) -> Iterator[Finding]:
        if module.started_at is None or module.source.path.stem in _NO_SCRIPTS:
            return
        reach = self._context.reach
        if any(run.kind == "flow" for run in self._context.runs.within(module)):
            for each in reach.calls(module.started, self._network.name):
                message = (
                    f"the script calls {where(each, module)} outside a flow: move it to a function "
                    "with @task that the flow calls"
                )
                yield finding(BARE_SCRIPT, module, each.site, message)
        elif module.started.calls and not reach.calls(module.started, self._starts_flow):
            message = (
                "this script does its work outside a flow, without retries, logs or a state: "
                "decorate the function that it calls with @flow, and its steps with @task"
            )
            yield finding(BARE_SCRIPT, module, module.started_at, message)

    def _import(self, module: Module) -> Iterator[Finding]:
        reach = self._context.reach
        for each in reach.calls(module.imported, self._network.name):
            if module.functions:
                message = (
                    f"importing this file calls {where(each, module)}, in every pod and before "
                    "there is a log: move it to a task"
                )
                yield finding(AT_IMPORT, module, each.site, message)
            else:
                message = (
                    f"this script calls {where(each, module)} outside a flow: move it to a "
                    "function with @task that a function with @flow calls"
                )
                yield finding(BARE_SCRIPT, module, each.site, message)
        for call, scope in module.imported.calls:
            name = self._starts_flow(call, scope, module.imported)
            if name and not name.startswith("prefect."):
                message = (
                    f"importing this file starts the flow {name}, so each of its runs would start "
                    f"another one: call it below `{_GUARD}`"
                )
                yield finding(STARTED_BY_IMPORT, module, call, message)

    def _starts_flow(self, call: ast.Call, scope: Scope, _body: Body) -> str | None:
        """Return a name if `call` starts, serves or deploys a flow, or serves a task."""
        for symbol in self._context.project.resolve(call.func, scope):
            if isinstance(symbol, str) and _STARTS.match(symbol):
                return symbol
            function = symbol.function if isinstance(symbol, Method) else symbol
            run = self._context.runs.of(function) if isinstance(function, Function) else None
            serves = isinstance(symbol, Method) and symbol.name == "serve"
            if run is not None and (run.kind == "flow" or serves):
                return run.name
        return None
