"""Concurrency limits: those that a flow waits for exist, and it waits for them."""

import ast
from collections.abc import Iterator

from prefect_platform_cli.lint.context import Context, bodies, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.scopes import Module, Scope

UNDECLARED = Rule("PF301", Severity.SHOULD, "A concurrency limit that is not declared")
NOT_STRICT = Rule("PF302", Severity.SHOULD, "A concurrency limit that may be missing")
RULES = (UNDECLARED, NOT_STRICT)

_CALLS = {
    f"prefect.concurrency.{module}.{name}"
    for module in ("sync", "asyncio")
    for name in ("concurrency", "rate_limit")
}


class Limits:
    """Finds `concurrency` and `rate_limit` that do not limit anything."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of these rules in `module`."""
        for body in bodies(module):
            for call, scope in body.calls:
                if _CALLS & set(self._context.reach.paths(call, scope)):
                    yield from self._limit(call, scope, module)

    def _limit(self, call: ast.Call, scope: Scope, module: Module) -> Iterator[Finding]:
        given = {each.arg: each.value for each in call.keywords}
        names = call.args[0] if call.args else given.get("names")
        value = ... if names is None else self._context.project.constant(names, scope)
        for name in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
            if self._context.limits is not None and name not in self._context.limits:
                message = (
                    f"no platform.yaml declares the concurrency limit {name}: add it below "
                    "concurrency_limits"
                )
                yield finding(UNDECLARED, module, call, message)
        strict = given.get("strict")
        if None not in given and (
            strict is None or self._context.project.constant(strict, scope) is False
        ):
            message = (
                "if this limit does not exist, nothing is limited and only a warning says so: "
                "add strict=True"
            )
            yield finding(NOT_STRICT, module, call, message)
