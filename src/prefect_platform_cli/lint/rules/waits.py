"""Red line of waits: what may never end needs a timeout."""

import ast
import re
from collections.abc import Iterator

from prefect_platform_cli.lint.context import Context, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.network import readable
from prefect_platform_cli.lint.scopes import Body, Module, Scope

ENDLESS = Rule("PF007", Severity.MUST, "A wait that may never end")
RULES = (ENDLESS,)

_SLEEP = re.compile(r"(time|asyncio|anyio)\.sleep")
_SUBPROCESS = re.compile(
    r"subprocess\.(run|call|check_call|check_output|Popen\(\)\.(wait|communicate))"
)
_POSITION = {"subprocess.Popen().wait": 0, "subprocess.Popen().communicate": 1}
_LONG = 60  # seconds


class Waits:
    """Finds sleeps, polling loops and subprocesses without a bound in flows and tasks."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of this rule in the flows and tasks of `module`."""
        for run in self._context.runs.within(module):
            if self._context.runs.option(run, "timeout_seconds") is not None:
                continue
            for each in self._context.reach.every(run.function.body, self._waits):
                message = (
                    f"the {run.kind} {run.name} has no timeout_seconds, but {each.name}: "
                    f"{_fix(each.name)}"
                )
                if each.scope.module is module:
                    yield finding(ENDLESS, module, each.call, message)
                else:
                    place = f" ({each.scope.module.source.path.name}:{each.call.lineno})"
                    yield finding(
                        ENDLESS, module, run.at, message.replace(each.name, each.name + place, 1)
                    )

    def _waits(self, call: ast.Call, scope: Scope, body: Body) -> str | None:
        for path in self._context.reach.paths(call, scope):
            if _SLEEP.fullmatch(path):
                if id(call) in body.unbounded:
                    return "polls in a loop that nothing ends"
                seconds = self._context.project.constant(call.args[0], scope) if call.args else 0
                if isinstance(seconds, int | float) and seconds >= _LONG:
                    return f"sleeps for {seconds:g} seconds"
            elif _SUBPROCESS.fullmatch(path) and not _has_timeout(call, path):
                return f"waits for {readable(path)} without a timeout"
        return None


def _has_timeout(call: ast.Call, path: str) -> bool:
    position = _POSITION.get(path, len(call.args))
    return len(call.args) > position or any(each.arg in (None, "timeout") for each in call.keywords)


def _fix(name: str) -> str:
    if name.startswith("waits"):
        return "add timeout=... to the call"
    if name.startswith("polls"):
        return "add timeout_seconds=..., or a deadline to the loop"
    return "add timeout_seconds=..."
