"""Names that become labels of job pods: without a letter or digit, the label is empty."""

from collections.abc import Iterator

from prefect_platform_cli.lint.context import Context, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.scopes import Module

FLOW = Rule("PF401", Severity.SHOULD, "A flow name without a letter or digit")
DEPLOYMENT = Rule("PF402", Severity.SHOULD, "A deployment name without a letter or digit")
RUN = Rule("PF403", Severity.SHOULD, "A run name without a letter or digit")
RULES = (FLOW, DEPLOYMENT, RUN)


class Names:
    """Finds names of flows and their runs of which the worker makes an empty label."""

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
                        f"the {what} {name!r} of the flow {run.name} has no letter or digit, so "
                        "its pods cannot be selected by it: give it one"
                    )
                    yield finding(rule, module, run.at, message)


def is_label(name: str) -> bool:
    """Return whether the worker can make a label of `name`.

    It replaces letters of other scripts by those of ASCII, and drops everything else.
    """
    return not name or any(each.isalnum() for each in name)
