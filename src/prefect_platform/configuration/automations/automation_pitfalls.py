"""Automations that Prefect's server accepts although they can never work.

The rules come from prefect.server.events of the pinned version; the tests check each of them
against that code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from prefect.server.events.schemas.automations import (
    AutomationCore,
    CompositeTrigger,
    EventTrigger,
    Trigger,
)
from prefect.server.events.schemas.events import ResourceSpecification

from prefect_platform.configuration.core.source import Step

# actions_on_trigger receive the automation's own event, which never names these kinds.
_NOT_IN_OWN_EVENT = ("deployment", "work-pool", "work-queue")


@dataclass(frozen=True)
class Pitfall:
    """The steps into the trigger or automation, why nothing will happen, and what to write."""

    steps: tuple[Step, ...]
    cause: str
    fix: str


def trigger_pitfalls(trigger: Trigger) -> Iterator[Pitfall]:
    """Yield the reasons why a trigger can never fire, without those of triggers inside it."""
    if isinstance(trigger, EventTrigger):
        yield from _event_pitfalls(trigger)
    elif isinstance(trigger, CompositeTrigger):
        yield from _composite_pitfalls(trigger)


def automation_pitfalls(automation: AutomationCore) -> Iterator[Pitfall]:
    """Yield the actions of an automation that never run or can never succeed."""
    if automation.actions_on_resolve:
        yield Pitfall(
            ("actions_on_resolve",),
            "actions_on_resolve never run: only the metric triggers of Prefect Cloud can resolve",
            "remove them, or add an automation whose trigger expects the event of the recovery",
        )
    for index, action in enumerate(automation.actions_on_trigger):
        kind = next((kind for kind in _NOT_IN_OWN_EVENT if action.type.endswith(kind)), None)
        if kind and getattr(action, "source", None) == "inferred":
            thing = kind.replace("-", " ")
            yield Pitfall(
                ("actions_on_trigger", index),
                f"{action.type} cannot infer a {thing}: actions_on_trigger receive the "
                f"automation's own event, which names no {thing}",
                f"move it to actions, or name the {thing}",
            )


def _event_pitfalls(trigger: EventTrigger) -> Iterator[Pitfall]:
    for key, events in (("after", trigger.after), ("expect", trigger.expect)):
        for event in sorted(events):
            if re.search(r"^!|[\[?]", event):
                yield Pitfall(
                    (key,),
                    f"no event ever matches {event}: the only wildcard in an event name is *",
                    "list the events by name, or use *",
                )
    if trigger.threshold < 1:
        yield Pitfall(
            ("threshold",),
            f"with threshold {trigger.threshold} "
            "a Proactive trigger never fires, and a Reactive one acts as with threshold 1",
            "set it to 1 or more",
        )
    for steps, specification in _specifications(trigger):
        for label, values in specification.items():
            if not values:
                yield Pitfall(
                    (*steps, label),
                    f"{label}: no resource ever matches an empty list",
                    "list the values to match, or remove the label",
                )


def _specifications(
    trigger: EventTrigger,
) -> Iterator[tuple[tuple[Step, ...], ResourceSpecification]]:
    for key, match in (("match", trigger.match), ("match_related", trigger.match_related)):
        if isinstance(match, ResourceSpecification):
            yield (key,), match
        elif isinstance(match, list):
            for index, each in enumerate(match):
                if isinstance(each, ResourceSpecification):
                    yield (key, index), each


def _composite_pitfalls(trigger: CompositeTrigger) -> Iterator[Pitfall]:
    if not trigger.triggers:
        yield Pitfall(
            ("triggers",),
            f"a {trigger.type} trigger without triggers never fires",
            "add the triggers that it combines",
        )
    if trigger.within is not None and trigger.within <= timedelta(0):
        yield Pitfall(
            ("within",),
            "within is not positive, so its triggers never fire together",
            "set the time that may pass between them, or remove within to allow any time",
        )
