"""Format a plan for people: one line per resource and its differences, without secret values."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.markup import escape

from prefect_platform.configuration.core.resource import Declared, Found
from prefect_platform.configuration.core.secret_values import SecretValue
from prefect_platform.configuration.core.source import Step
from prefect_platform.configuration.reconcile.plan import Action, Change, Plan, compared

_SIGNS = {
    Action.CREATE: "[green]+[/]",
    Action.UPDATE: "[yellow]~[/]",
    Action.ADOPT: "[cyan]=[/]",
    Action.DELETE: "[red]-[/]",
    Action.FORGET: "[red]-[/]",
}
_LONGEST = 120  # characters of a value that are shown
_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """One value that differs on the server; `before` or `after` may be absent."""

    steps: tuple[Step, ...]
    before: object
    after: object

    def __str__(self) -> str:
        name = ".".join(str(step) for step in self.steps)
        if isinstance(self.before, SecretValue) or isinstance(self.after, SecretValue):
            return f"{name}: (secret) → (secret)"
        return f"{name}: {_text(self.before)} → {_text(self.after)}"


def differences(before: object, after: object, *steps: Step) -> Iterator[Difference]:
    """Yield the differences between two bodies, as deep as both have the same structure."""
    match before, after:
        case Mapping(), Mapping():
            for name in [*after, *(name for name in before if name not in after)]:
                yield from differences(
                    before.get(name, _ABSENT), after.get(name, _ABSENT), *steps, name
                )
        case list(), list() if len(before) == len(after):
            for index, (old, new) in enumerate(zip(before, after, strict=True)):
                yield from differences(old, new, *steps, index)
        case _ if before != after:
            yield Difference(steps, before, after)


def lines(change: Change) -> Iterator[str]:
    """Yield a change as lines of rich markup; a secret value is shown as (secret)."""
    headline = f"{_SIGNS[change.action]} {change.action} {escape(str(change.key))}"
    match change:
        case Change(Action.UPDATE, _, Declared() as declared, Found() as found):
            yield headline
            for difference in differences(compared(declared, found), declared.body):
                yield f"    {escape(str(difference))}"
        case Change(Action.ADOPT):
            yield f"{headline}: it matches the files, which own it from now on"
        case Change(Action.FORGET):
            yield f"{headline}: the files no longer own it"
        case _:
            yield headline


def summary(plan: Plan) -> str:
    """Return a summary of the plan in one sentence, as rich markup."""
    if not plan.changes:
        said = "Nothing to change: the server matches the files"
    else:
        counts = [
            f"{count} to {action}"
            for action in Action
            if (count := sum(change.action is action for change in plan.changes))
        ]
        said = ", ".join(counts)
    if plan.unpruned:
        names = ", ".join(str(key) for key in plan.unpruned)
        said += f"; no longer declared, and deleted with --prune: {names}"
    return escape(said)


def _text(value: object) -> str:
    if value is _ABSENT:
        return "(nothing)"
    written = json.dumps(value, ensure_ascii=False, sort_keys=True, default=repr)
    return written if len(written) <= _LONGEST else f"{written[:_LONGEST]}…"
