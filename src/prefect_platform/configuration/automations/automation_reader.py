"""Read an automation from a file and check it with Prefect's own models, without a server.

The models ignore unknown keys, so this module looks for them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

from prefect.events.schemas.automations import trigger_discriminator
from prefect.server.events.schemas.automations import AutomationCore
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from prefect_platform.configuration.automations.automation_models import (
    ACTION_LISTS,
    ACTIONS,
    CLIENT_DEFAULTS,
    CLOUD_ONLY,
    FREE_FORM,
    TRIGGERS,
    body_of,
    fields_of,
    is_duration,
)
from prefect_platform.configuration.automations.automation_pitfalls import (
    Pitfall,
    automation_pitfalls,
    trigger_pitfalls,
)
from prefect_platform.configuration.core.reader import Reader
from prefect_platform.configuration.core.references import (
    ID_FIELDS,
    REFERABLE,
    key_named,
    names_resource,
    word_of_resource_id,
)
from prefect_platform.configuration.core.resource import Key, Kind
from prefect_platform.configuration.core.source import ConfigurationError, Source, Step

_DURATION = TypeAdapter(timedelta)
_JSON = TypeAdapter(dict[str, JsonValue], config=ConfigDict(allow_inf_nan=False))
_M = TypeVar("_M", bound=BaseModel)


class AutomationReader(Reader):
    """Reads one automation of a file and returns its body.

    `keys` are the resources that the automation names, by placeholder ids. Prefect's models require
    ids, and the real ones are not known without a server.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.keys: dict[UUID, Key] = {}

    def automation(self, name: str, data: object, *steps: Step) -> dict[str, Any]:
        """Return the body of the automation; raises ConfigurationError with all problems."""
        if not isinstance(data, dict):
            raise ConfigurationError([self._source.no_mapping(*steps)])
        form = {**self._known(AutomationCore, data, *steps), "name": name}
        if "trigger" in data:
            form["trigger"] = self._trigger(data["trigger"], *steps, "trigger")
        for key in ACTION_LISTS:
            if isinstance(data.get(key), list):
                form[key] = [
                    self._action(each, *steps, key, index) for index, each in enumerate(data[key])
                ]
        core = self._validated(AutomationCore, form, *steps)
        if core is not None:
            self._add(automation_pitfalls(core), *steps)
        if core is None or self._problems:
            raise ConfigurationError(self._problems)
        body = body_of(core, self.keys.get)
        if "enabled" not in data:
            del body["enabled"]
        return body

    def _trigger(self, data: object, *steps: Step) -> dict[str, Any]:
        """Return the trigger with ids, or a placeholder trigger when it has a problem."""
        stand_in = {"type": "event", "posture": "Reactive"}
        before = len(self._problems)
        if not isinstance(data, dict):
            self._problems.append(self._source.no_mapping(*steps))
            return stand_in
        kind = str(trigger_discriminator(data))
        model = self._model(TRIGGERS, "trigger", kind, *steps)
        if model is None:
            return stand_in
        form = {**self._known(model, data, *steps), "type": kind}
        for key in {"match", "match_related"} & form.keys():
            form[key] = self._match(form[key], *steps, key)
        if isinstance(form.get("triggers"), list):
            form["triggers"] = [
                self._trigger(each, *steps, "triggers", index)
                for index, each in enumerate(form["triggers"])
            ]
        for key, default in CLIENT_DEFAULTS.items():
            if key in model.model_fields and model.model_fields[key].is_required():
                form.setdefault(key, default)
        trigger = self._validated(model, form, *steps)
        if trigger is not None:
            self._add(trigger_pitfalls(trigger), *steps)
        return form if len(self._problems) == before else stand_in

    def _action(self, data: object, *steps: Step) -> dict[str, Any]:
        """Return the action with ids, or a placeholder action when it has a problem."""
        stand_in = {"type": "do-nothing"}
        before = len(self._problems)
        if not isinstance(data, dict) or "type" not in data:
            self._refuse(
                steps, "the action has no type", f"set type to one of: {', '.join(sorted(ACTIONS))}"
            )
            return stand_in
        model = self._model(ACTIONS, "action", str(data["type"]), *steps)
        if model is None:
            return stand_in
        form = self._known(model, data, *steps)
        for field in ID_FIELDS.keys() & model.model_fields.keys():
            word = ID_FIELDS[field]
            name = form.pop(word, None)
            if field in data:  # already reported as an unknown key
                form[field] = NAMESPACE_OID
            elif self._needs_id(model, form, word, name, *steps):
                form[field] = self._id(word, name, *steps, word) if name else NAMESPACE_OID
        for value in _variables(form.get("parameters")):
            self._stand_in(Key(Kind.VARIABLE, value))
        self._validated(model, form, *steps)
        return form if len(self._problems) == before else stand_in

    def _needs_id(
        self,
        model: type[BaseModel],
        form: Mapping[str, Any],
        word: str,
        name: object,
        *steps: Step,
    ) -> bool:
        """Return whether Prefect needs an id; add a problem for a missing or superfluous name."""
        thing, shape = word.replace("_", " "), f"{word}: {REFERABLE[word].shape}"
        inferred = form.get("source") == "inferred"
        if not name and not inferred:
            fix = f"add {shape}"
            if "source" in model.model_fields:
                fix += f", or `source: inferred` to use the {thing} of the event"
            self._refuse(steps, f"{form['type']} names no {thing}", fix)
        elif name and inferred:
            self._refuse(
                steps,
                f"{form['type']} both names the {thing} and infers it from the event",
                f"remove {word}, or `source: inferred`",
            )
        return not inferred

    def _match(self, data: object, *steps: Step) -> object:
        if isinstance(data, list):
            return [self._match(each, *steps, index) for index, each in enumerate(data)]
        if not isinstance(data, dict):
            self._problems.append(self._source.no_mapping(*steps))
            return {}
        return {
            label: [self._label(each, *steps, label, index) for index, each in enumerate(value)]
            if isinstance(value, list)
            else self._label(value, *steps, label)
            for label, value in data.items()
        }

    def _label(self, value: object, *steps: Step) -> str:
        """Return the value of a label, with an id in place of a reference."""
        if names_resource(value) and isinstance(value, dict):
            ((word, name),) = value.items()
            return f"{REFERABLE[word].resource}.{self._id(word, name, *steps)}"
        if not isinstance(value, str):
            self._refuse(
                steps,
                "the value of a label is not text",
                f"put it in quotes, or name a resource by one of: {', '.join(REFERABLE)}",
            )
        elif word := word_of_resource_id(value):
            self._refuse(
                steps,
                f"{value} exists on one server only",
                f"write {{{word}: {REFERABLE[word].shape}}}",
            )
        return str(value)

    def _id(self, word: str, name: object, *steps: Step) -> UUID:
        """Return a placeholder id for a named resource; add a problem for an invalid name."""
        try:
            return self._stand_in(key_named(word, name))
        except ValueError as error:
            cause, _, fix = str(error).partition("; ")
            self._refuse(steps, cause, fix)
            return NAMESPACE_OID

    def _stand_in(self, key: Key) -> UUID:
        stand_in = uuid5(NAMESPACE_OID, str(key))
        self.keys[stand_in] = key
        return stand_in

    def _known(
        self, model: type[BaseModel], data: Mapping[Any, Any], *steps: Step
    ) -> dict[str, Any]:
        """Return the known fields, with durations parsed; add a problem for every other key."""
        fields = fields_of(model)
        known: dict[str, Any] = {}
        for key, value in data.items():
            if key not in fields:
                problem = self._source.unknown_key(*steps, str(key), known=fields)
                if word := ID_FIELDS.get(key):
                    named = f"{word}: {REFERABLE[word].shape}"
                    problem = replace(
                        problem, fix=f"write {named}, because ids differ between servers"
                    )
                self._problems.append(problem)
            elif value is not None and is_duration(fields[key]):
                known |= self._duration(key, value, *steps)
            elif value is not None and key in FREE_FORM:
                known |= self._json(key, value, *steps)
            else:
                known[key] = value
        return known

    def _duration(self, key: str, value: object, *steps: Step) -> dict[str, timedelta]:
        """Return the parsed duration; Prefect's check of Proactive triggers fails on text."""
        try:
            return {key: _DURATION.validate_python(None if isinstance(value, bool) else value)}
        except ValidationError:
            self._refuse(
                (*steps, key),
                f"{key}: {value} is not a duration",
                "write it in seconds, or in ISO 8601, such as PT90S",
            )
            return {}

    def _json(self, key: str, value: object, *steps: Step) -> dict[str, Any]:
        """Return the mapping if it is JSON; Prefect would make a date text, and NaN null."""
        try:
            return {key: _JSON.validate_python(value)}
        except ValidationError as error:
            self._problems += self._source.problems(error, *steps, key)
            return {}

    def _model(
        self, models: Mapping[str, type[_M]], what: str, kind: str, *steps: Step
    ) -> type[_M] | None:
        if kind in models:
            return models[kind]
        if kind in CLOUD_ONLY:
            cause = f"only Prefect Cloud has the {what} {kind}"
        else:
            cause = f"there is no {what} {kind}"
        self._refuse(steps, cause, f"use one of: {', '.join(sorted(models))}")
        return None

    def _add(self, pitfalls: Iterator[Pitfall], *steps: Step) -> None:
        for each in pitfalls:
            self._refuse((*steps, *each.steps), each.cause, each.fix)


def _variables(value: object) -> Iterator[str]:
    """Yield the names of the variables that the parameters of a run refer to."""
    if isinstance(value, list):
        for item in value:
            yield from _variables(item)
    elif isinstance(value, dict):
        name = value.get("variable_name")
        if value.get("__prefect_kind") == "workspace_variable" and isinstance(name, str):
            yield name
        for item in value.values():
            yield from _variables(item)
