"""Parameters of flows: Prefect validates them, and shows a form for them, by their types."""

from collections.abc import Iterator

from prefect_platform_cli.lint.context import Context, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.scopes import Module

UNTYPED = Rule("PF521", Severity.SHOULD, "A parameter without a type")
RULES = (UNTYPED,)

_OBJECTS = {"self", "cls"}  # of a flow that is a method


class Parameters:
    """Finds parameters of flows without an annotation."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of this rule in `module`."""
        for run in self._context.runs.within(module):
            arguments = run.function.node.args
            for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                if run.kind == "flow" and each.annotation is None and each.arg not in _OBJECTS:
                    message = (
                        f"Prefect accepts anything for the parameter {each.arg} of the flow "
                        f"{run.name}: give it a type"
                    )
                    yield finding(UNTYPED, module, each, message)
