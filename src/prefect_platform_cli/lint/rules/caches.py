"""Caches and results: what can never be found again, or is found forever."""

import ast
from collections.abc import Iterator

from prefect_platform_cli.lint.context import Context, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.runs import Run
from prefect_platform_cli.lint.scopes import Module, Scope

NOT_PERSISTED = Rule("PF201", Severity.MUST, "A cache without stored results")
NO_EXPIRATION = Rule("PF202", Severity.SHOULD, "A cache that never expires")
LOCAL_STORAGE = Rule("PF203", Severity.MUST, "Results that are stored in the pod")
RULES = (NOT_PERSISTED, NO_EXPIRATION, LOCAL_STORAGE)

_POLICIES = "prefect.cache_policies."
_NONE = {f"{_POLICIES}{name}" for name in ("NO_CACHE", "NONE", "_None()")}
# Policies that include the id of the flow run, so that no other run finds the result.
_ONE_RUN = {f"{_POLICIES}{name}" for name in ("DEFAULT", "RUN_ID", "RunId()", "DefaultPolicy()")}
_MANY_RUNS = {
    f"{_POLICIES}{name}" for name in ("INPUTS", "TASK_SOURCE", "FLOW_PARAMETERS", "Inputs()")
}
_LOCAL = {"prefect.filesystems.LocalFileSystem()", "prefect.filesystems.LocalFileSystem.load()"}


class Caches:
    """Finds options of tasks and flows that make a cache useless or wrong."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of these rules in `module`."""
        for run in self._context.runs.within(module):
            option = self._context.runs.option
            cached = run.kind == "task" and self._is_cached(run)
            if cached and option(run, "persist_result") is False:
                message = (
                    f"the task {run.name} has a cache policy but persist_result=False, so nothing "
                    "is ever cached: set persist_result=True, or cache_policy=NO_CACHE"
                )
                yield finding(NOT_PERSISTED, module, run.at, message)
            elif cached and self._outlives_its_run(run) and option(run, "cache_expiration") is None:
                message = (
                    f"the task {run.name} reuses its result forever, even when its source has "
                    "changed: add cache_expiration=timedelta(hours=1)"
                )
                yield finding(NO_EXPIRATION, module, run.at, message)
            if self._stores_locally(run):
                message = (
                    f"the results of the {run.kind} {run.name} are lost with its pod: remove "
                    "result_storage, so that they go to the bucket of the work pool"
                )
                yield finding(LOCAL_STORAGE, module, run.at, message)

    def _is_cached(self, run: Run) -> bool:
        if "cache_key_fn" in run.options:
            return self._context.runs.option(run, "cache_key_fn") is not None
        if "cache_policy" not in run.options:
            return False
        found = self._parts(*run.options["cache_policy"])
        return bool(found) and not found & _NONE

    def _outlives_its_run(self, run: Run) -> bool:
        if "cache_key_fn" in run.options:
            return True
        found = self._parts(*run.options["cache_policy"])
        return bool(found & _MANY_RUNS) and not found & _ONE_RUN

    def _parts(self, policy: ast.expr, scope: Scope) -> set[str]:
        """Return the policies that `policy` adds up."""
        match self._context.project.definition(policy, scope):
            case (ast.BinOp(op=ast.Add(), left=left, right=right), inner):
                return self._parts(left, inner) | self._parts(right, inner)
            case (ast.BinOp(op=ast.Sub(), left=left), inner):
                return self._parts(left, inner)
        return {
            each for each in self._context.project.resolve(policy, scope) if isinstance(each, str)
        }

    def _stores_locally(self, run: Run) -> bool:
        if "result_storage" not in run.options:
            return False
        value, scope = run.options["result_storage"]
        named = self._context.project.constant(value, scope)
        local = isinstance(named, str) and named.startswith("local-file-system/")
        return local or bool(self._context.project.resolve(value, scope) & _LOCAL)
