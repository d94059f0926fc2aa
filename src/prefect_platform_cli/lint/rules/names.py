"""Names that become labels of job pods: one without a letter or digit is no label at all."""

from collections.abc import Iterator

from prefect_platform_cli.lint.context import Context, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.scopes import Module

FLOW = Rule("PF401", Severity.MUST, "A flow name that is no Kubernetes label")
DEPLOYMENT = Rule("PF402", Severity.MUST, "A deployment name that is no Kubernetes label")
RUN = Rule("PF403", Severity.MUST, "A run name that is no Kubernetes label")
RULES = (FLOW, DEPLOYMENT, RUN)


class Names:
    """Finds names of flows and their runs from which the worker can make no label."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of these rules in `module`."""
        for run in self._context.runs.within(module):
            if run.kind != "flow":
                continue
            option = self._context.runs.option
            for rule, what, name in (
                (FLOW, "name", option(run, "name") or run.name),
                (RUN, "flow_run_name", option(run, "flow_run_name")),
            ):
                if isinstance(name, str) and not is_label(name):
                    message = (
                        f"Kubernetes refuses the pods of the flow {run.name}, whose {what} "
                        f"{name!r} has no letter or digit: give it one"
                    )
                    yield finding(rule, module, run.at, message)


def is_label(name: str) -> bool:
    """Return whether the worker can make a label of `name`.

    It replaces letters of other scripts by those of ASCII, and drops everything else.
    """
    return not name or any(each.isalnum() for each in name)
