"""Rules of prefect.yaml: what every deployment says about itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect_platform.configuration.core.source import Source
from prefect_platform_cli.lint.context import Context
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.rules import names
from prefect_platform_cli.lint.scopes import Function

NO_TAGS = Rule("PF501", Severity.SHOULD, "A deployment without tags")
UNDECIDED = Rule("PF502", Severity.SHOULD, "A deployment that leaves its schedule open")
NO_FLOW = Rule("PF503", Severity.MUST, "A deployment of a flow that does not exist")
RULES = (NO_TAGS, UNDECIDED, NO_FLOW)


class Deployments:
    """Finds deployments that are incomplete, or that no pod could run."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, source: Source) -> Iterator[Finding]:
        """Yield the findings of these rules in a prefect.yaml."""
        listed = source.data.get("deployments") if isinstance(source.data, dict) else None
        for index, each in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(each, dict) and each.get("name"):
                for rule, message in self._deployment(each, source.path.parent):
                    key = "entrypoint" if rule is NO_FLOW else "name"
                    line = source.at("deployments", index, key).line
                    yield Finding(source.path, line, 1, rule, message)

    def _deployment(self, each: dict[Any, Any], folder: Path) -> Iterator[tuple[Rule, str]]:
        name = each.get("name")
        if not each.get("tags"):
            message = f"the deployment {name} has no tags, by which people find its runs: add some"
            yield NO_TAGS, message
        if not names.is_label(str(name)):
            message = (
                f"the name of the deployment {name!r} has no letter or digit, so its pods cannot "
                "be selected by it: give it one"
            )
            yield names.DEPLOYMENT, message
        if not {"schedules", "schedule"} & each.keys():
            message = (
                f"nothing says when the deployment {name} runs, so `apply` deletes its schedules: "
                "add schedules, or `schedules: []` for runs on demand"
            )
            yield UNDECIDED, message
        file, colon, flow = str(each.get("entrypoint")).rpartition(":")
        if colon and (fault := self._fault(folder / file, flow)):
            yield NO_FLOW, f"the deployment {name} cannot run: {fault}: correct its entrypoint"

    def _fault(self, file: Path, flow: str) -> str | None:
        if not file.is_file():
            return f"there is no file {file}"
        module = self._context.project.module(file.absolute())
        if module is None:
            return None  # it is reported when it is linted itself
        bound = module.scope.names.get(flow)
        if not bound:
            return f"{file} defines no {flow}"
        if len(bound) == 1 and isinstance(bound[0], Function):
            run = self._context.runs.of(bound[0])
            if run is None or run.kind != "flow":
                return f"{flow} in {file} is not a flow"
        return None
