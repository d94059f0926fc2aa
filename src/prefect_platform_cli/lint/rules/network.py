"""Red lines of the network: calls belong in tasks, with retries, growing delays and timeouts."""

import ast
from collections.abc import Iterator

from prefect_platform_cli.lint import network
from prefect_platform_cli.lint.context import Context, bodies, finding, where
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.runs import UNKNOWN, Run
from prefect_platform_cli.lint.scopes import Body, Module, Scope

OUTSIDE_TASK = Rule("PF002", Severity.MUST, "A network call outside a task")
NO_RETRIES = Rule("PF003", Severity.MUST, "A network call in a task without retries")
NO_BACKOFF = Rule("PF004", Severity.MUST, "Retries of a network call without growing delays")
NO_TIMEOUT = Rule("PF008", Severity.MUST, "A client without a timeout")
RULES = (OUTSIDE_TASK, NO_RETRIES, NO_BACKOFF, NO_TIMEOUT)

_RETRIES = "retries=3, retry_delay_seconds=exponential_backoff(10)"


class Network:
    """Finds the network calls of flows and tasks."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of these rules in `module`."""
        for run in self._context.runs.within(module):
            reached = self._context.reach.calls(run.function.body, self.name)
            if run.kind == "flow":
                for each in reached:
                    message = f"the flow {run.name} calls {where(each, module)} outside a task"
                    if each.through:
                        message += f" through {each.through}"
                    message += f": move it to a function with @task({_RETRIES})"
                    yield finding(OUTSIDE_TASK, module, each.site, message)
            elif not self._context.reach.retries(run):
                for each in reached:
                    if not each.retried:
                        yield from self._retries(run, module, where(each, module))
                        break
        for body in bodies(module):
            for call, scope in body.calls:
                yield from self._timeout(call, scope, module)

    def name(self, call: ast.Call, scope: Scope, _body: Body) -> str | None:
        """Return the name of the network call that `call` is."""
        for path in self._context.reach.paths(call, scope):
            if network.uses_network(path):
                return network.readable(path)
            if network.reads_address(path) and call.args:
                address = self._context.project.constant(call.args[0], scope)
                if network.is_address(address):
                    return f"{path} of an address"
        return None

    def _retries(self, run: Run, module: Module, call: str) -> Iterator[Finding]:
        retries = self._context.runs.option(run, "retries")
        if retries in (None, 0):
            message = f"the task {run.name} calls {call} without retries: add {_RETRIES}"
            yield finding(NO_RETRIES, module, run.at, message)
        elif isinstance(retries, int) and not self._grows(run, retries):
            message = (
                f"the task {run.name} repeats {call} without a growing delay, which keeps an "
                "overloaded service down: add retry_delay_seconds=exponential_backoff(10)"
            )
            yield finding(NO_BACKOFF, module, run.at, message)

    def _grows(self, run: Run, retries: int) -> bool:
        delay = self._context.runs.option(run, "retry_delay_seconds")
        if delay is UNKNOWN:
            return True
        if isinstance(delay, list | tuple):
            return len(delay) > 1 and list(delay) == sorted(delay) and delay[0] < delay[-1]
        # One retry after a pause has no delay that could grow.
        return retries == 1 and bool(delay)

    def _timeout(self, call: ast.Call, scope: Scope, module: Module) -> Iterator[Finding]:
        for path in self._context.reach.paths(call, scope):
            if network.takes_timeout_away(path, call):
                message = f"{network.readable(path)} has timeout=None: give it seconds"
                yield finding(NO_TIMEOUT, module, call, message)
                return
            if (timeout := network.timeout_of(path)) is None:
                continue
            name, position = timeout
            if self._given(call, name, position) or self._in_session(path, module):
                continue
            message = f"{network.readable(path)} has no timeout: add {name}=30"
            yield finding(NO_TIMEOUT, module, call, message)
            return

    def _given(self, call: ast.Call, name: str, position: int | None) -> bool:
        """Return whether the call has a timeout, or may have one that is not visible here."""
        for each in call.keywords:
            if each.arg == name:
                return not (isinstance(each.value, ast.Constant) and each.value.value is None)
            if each.arg in (None, "conninfo", "dsn"):
                return True
        if name == "connect_timeout" and call.args:  # it may be in the connection string
            return not isinstance(call.args[0], ast.Constant) or name in str(call.args[0].value)
        if any(isinstance(each, ast.Starred) for each in call.args):
            return True
        return position is not None and len(call.args) > position

    def _in_session(self, path: str, module: Module) -> bool:
        """Return whether a session may add a timeout to its requests: `mount`, or `request = `."""
        if "ession()" not in path:
            return False
        return any(
            isinstance(node, ast.Attribute)
            and (
                node.attr == "mount" or (node.attr == "request" and isinstance(node.ctx, ast.Store))
            )
            for node in module.source.nodes
        )
