"""Red line of logs: what a run prints or logs has to reach the user interface."""

import ast
import re
from collections.abc import Iterator
from itertools import chain

from prefect_platform_cli.lint.context import Context, finding, where
from prefect_platform_cli.lint.findings import Edit, Finding, Rule, Severity
from prefect_platform_cli.lint.fixes import with_argument
from prefect_platform_cli.lint.runs import Run
from prefect_platform_cli.lint.scopes import Body, Module, Scope

LOST_PRINTS = Rule("PF006", Severity.MUST, "Prints that are not logged", fixable=True)
LOST_LOGS = Rule("PF009", Severity.SHOULD, "Logs that do not reach the run")
RULES = (LOST_PRINTS, LOST_LOGS)

_LOGGING = re.compile(
    r"logging\.(getLogger\(\)\.)?(debug|info|warning|error|critical|exception|log)"
)


class Logs:
    """Finds prints without `log_prints`, and loggers that Prefect does not read."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of these rules in `module`."""
        for run in self._context.runs.within(module):
            yield from self._prints(run, module)
            for call, scope in run.function.body.calls:
                if any(map(_LOGGING.fullmatch, self._context.reach.paths(call, scope))):
                    message = (
                        f"this line is not in the logs of the {run.kind} {run.name}: "
                        "use get_run_logger() of prefect"
                    )
                    yield finding(LOST_LOGS, module, call, message)

    def _prints(self, run: Run, module: Module) -> Iterator[Finding]:
        found = self._context.reach.calls(run.function.body, self._printed)
        if not found or self._context.runs.option(run, "log_prints") not in (None, False):
            return
        to = [run]
        if run.kind == "task" and self._context.runs.option(run, "log_prints") is None:
            # A task without the option takes it from the flow that calls it.
            flows = self._context.callers[run.function]
            options = [self._context.runs.option(flow, "log_prints") for flow in flows]
            if not flows or any(each not in (None, False) for each in options):
                return
            to = flows
        message = (
            f"the {run.kind} {run.name} calls {where(found[0], module)}, which is not logged: "
            f"add log_prints=True to {to[0].name}"
        )
        edits = [self._edits(each, module) for each in to]
        certain = tuple(chain.from_iterable(edits)) if all(edits) else ()
        yield finding(LOST_PRINTS, module, run.at, message, certain)

    def _edits(self, flow: Run, module: Module) -> tuple[Edit, ...]:
        """Return how to add the option to `flow`; none if it may not be that simple."""
        callee = flow.at.func if isinstance(flow.at, ast.Call) else flow.at
        found = self._context.project.resolve(callee, flow.function.outer)
        if (
            flow.function.module is not module
            or flow.at not in flow.function.node.decorator_list
            or found != {"prefect.flow"}
            or "log_prints" in flow.options  # False, which may be intended
        ):
            return ()
        return with_argument(module.source, flow.at, "log_prints=True")

    def _printed(self, call: ast.Call, scope: Scope, _body: Body) -> str | None:
        paths = self._context.reach.paths(call, scope)
        # Prefect logs only what would go to standard output.
        to_file = any(each.arg == "file" for each in call.keywords)
        return "print" if "builtins.print" in paths and not to_file else None
