"""Prefect's models of automations, and the normalized form in which they are compared."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, get_args, get_origin
from uuid import UUID

from prefect.server.events.actions import Action, ServerActionTypes
from prefect.server.events.schemas.automations import (
    AutomationCore,
    ServerTriggerTypes,
    Trigger,
)
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from prefect_platform.configuration.core.references import ID_FIELDS, to_names
from prefect_platform.configuration.core.resource import Key

TRIGGERS: dict[str, type[Trigger]] = {
    model.model_fields["type"].default: model for model in get_args(ServerTriggerTypes)
}
ACTIONS: dict[str, type[Action]] = {
    model.model_fields["type"].default: model for model in get_args(ServerActionTypes)
}
ACTION_LISTS = ("actions", "actions_on_trigger", "actions_on_resolve")
FREE_FORM = {"parameters", "job_variables"}
"""Fields of actions that accept any JSON."""

CLIENT_DEFAULTS = {"posture": "Reactive", "within": None}
"""What Prefect's client adds to a trigger before sending it, where the server has no default."""

CLOUD_ONLY = {"metric", "declare-incident"}
"""Types that Prefect's client has models for but its server refuses."""


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of one of Prefect's models, by the keys that a file uses for them."""
    hidden = "name" if model is AutomationCore else "id"  # the name is the key in the section
    return {
        ID_FIELDS.get(name, name): field
        for name, field in model.model_fields.items()
        if name != hidden
    }


def is_duration(field: FieldInfo) -> bool:
    """Return whether the field is a duration."""
    return timedelta in _parts(field.annotation)


def _parts(annotation: object) -> Iterator[object]:
    """Yield a type and all of its parts, because a duration may be annotated or optional."""
    yield annotation
    for each in get_args(annotation):
        yield from _parts(each)


def body_of(core: AutomationCore, key_of: Callable[[UUID], Key | None]) -> dict[str, Any]:
    """Return the body as a file would say it.

    It has names in place of ids and all defaults; sets are sorted, and durations are in seconds.
    """
    body = to_names(core.model_dump(mode="json", exclude={"name"}), key_of)
    _tidy(AutomationCore, body)
    for key in ACTION_LISTS:
        for action in body[key]:
            _tidy(ACTIONS[action["type"]], action)
    _tidy_trigger(body["trigger"])
    return body


def _tidy_trigger(trigger: dict[str, Any]) -> None:
    del trigger["id"]
    _tidy(TRIGGERS[trigger["type"]], trigger)
    for child in trigger.get("triggers", []):
        _tidy_trigger(child)


def _tidy(model: type[BaseModel], part: dict[str, Any]) -> None:
    """Sort sets, and turn whole seconds into integers."""
    for key, field in fields_of(model).items():
        if get_origin(field.annotation) is set:
            part[key] = sorted(part[key])
        elif is_duration(field) and part[key] is not None and part[key].is_integer():
            part[key] = int(part[key])
