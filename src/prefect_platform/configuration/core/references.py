"""Translate between names in the automations of a file and the ids that Prefect uses instead.

A file says `deployment: etl-daily/daily` where an action of Prefect has `deployment_id`, and
`{deployment: etl-daily/daily}` where a trigger matches `prefect.deployment.<id>`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect_platform.configuration.core.resource import Key, Kind

_DELETED = "<deleted "
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True)
class Referable:
    """A kind that can be named.

    `resource` is its prefix in the resource ids of events, `shape` the form of its names.
    """

    kind: Kind
    resource: str
    shape: str


REFERABLE = {
    "deployment": Referable(Kind.DEPLOYMENT, "prefect.deployment", "FLOW/NAME"),
    "block": Referable(Kind.BLOCK, "prefect.block-document", "TYPE/NAME"),
    "work_pool": Referable(Kind.WORK_POOL, "prefect.work-pool", "NAME"),
    "work_queue": Referable(Kind.WORK_QUEUE, "prefect.work-queue", "POOL/QUEUE"),
    "automation": Referable(Kind.AUTOMATION, "prefect.automation", "NAME"),
    "variable": Referable(Kind.VARIABLE, "prefect.variable", "NAME"),
    "concurrency_limit": Referable(Kind.CONCURRENCY_LIMIT, "prefect.concurrency-limit", "NAME"),
}
"""The kinds that a reference `{KEY: NAME}` can name, by that key."""

ID_FIELDS = {
    "deployment_id": "deployment",
    "block_document_id": "block",
    "work_pool_id": "work_pool",
    "work_queue_id": "work_queue",
    "automation_id": "automation",
}
"""The id fields of Prefect's actions, with the key that a file uses instead."""

_BY_RESOURCE = {referable.resource: word for word, referable in REFERABLE.items()}
_RESOURCE_ID = re.compile(rf"({'|'.join(map(re.escape, _BY_RESOURCE))})\.({_UUID})")


def key_named(word: str, name: object) -> Key:
    """Return the key that `{word: name}` refers to.

    Raises ValueError with the text "CAUSE; FIX".
    """
    referable = REFERABLE[word]
    written = f"{word}: {referable.shape}"
    if not isinstance(name, str) or not name:
        raise ValueError(f"{word} is not a name; write {written}")
    if name.startswith(_DELETED):
        raise ValueError(f"{word} {name} no longer exists; name one that exists")
    if "/" in referable.shape and not re.fullmatch(r"[^/]+/[^/]+", name):
        raise ValueError(f"{word} {name} does not have the form {referable.shape}; write {written}")
    return Key(referable.kind, name)


def names_resource(value: object) -> bool:
    """Return whether a value in `match` is a reference to a resource."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in REFERABLE


def word_of_resource_id(value: str) -> str | None:
    """Return the key to write instead of a resource id, None when `value` is not such an id."""
    found = _RESOURCE_ID.fullmatch(value)
    return _BY_RESOURCE[found[1]] if found else None


def to_ids(automation: Mapping[str, Any], id_of: Callable[[Key], UUID]) -> dict[str, Any]:
    """Return the automation with ids in place of names; its body must be valid."""

    def value(named: Any) -> Any:  # noqa: ANN401 - JSON
        if not names_resource(named):
            return named
        ((word, name),) = named.items()
        return f"{REFERABLE[word].resource}.{id_of(key_named(word, name))}"

    def action(named: Mapping[str, Any]) -> dict[str, Any]:
        fields = {word: field for field, word in ID_FIELDS.items()}
        return {
            fields.get(key, key): str(id_of(key_named(key, item)))
            if key in fields and item is not None
            else item
            for key, item in named.items()
        }

    return _mapped(automation, action, value)


def to_names(automation: Mapping[str, Any], key_of: Callable[[UUID], Key | None]) -> dict[str, Any]:
    """Return the automation with names in place of ids.

    The id of a resource that does not exist becomes the name `<deleted ID>`, which files may not
    use.
    """

    def name(found: str) -> str:
        key = key_of(UUID(found))
        return key.name if key else f"{_DELETED}{found}>"

    def value(found: Any) -> Any:  # noqa: ANN401 - JSON
        match = _RESOURCE_ID.fullmatch(found)
        return {_BY_RESOURCE[match[1]]: name(match[2])} if match else found

    def action(found: Mapping[str, Any]) -> dict[str, Any]:
        return {
            ID_FIELDS.get(key, key): name(item) if key in ID_FIELDS and item is not None else item
            for key, item in found.items()
        }

    return _mapped(automation, action, value)


def _mapped(
    automation: Mapping[str, Any],
    action: Callable[[Mapping[str, Any]], dict[str, Any]],
    value: Callable[[Any], Any],
) -> dict[str, Any]:
    """Return the automation with `action` applied to its actions, `value` to values to match."""

    def labels(match: Mapping[str, Any]) -> dict[str, Any]:
        return {
            label: [value(each) for each in item] if isinstance(item, list) else value(item)
            for label, item in match.items()
        }

    def trigger(part: Mapping[str, Any]) -> dict[str, Any]:
        mapped = dict(part)
        if "triggers" in part:
            mapped["triggers"] = [trigger(each) for each in part["triggers"]]
        for key in part.keys() & {"match", "match_related"}:
            match = part[key]
            mapped[key] = [*map(labels, match)] if isinstance(match, list) else labels(match)
        return mapped

    mapped = {**automation, "trigger": trigger(automation["trigger"])}
    for key in ("actions", "actions_on_trigger", "actions_on_resolve"):
        mapped[key] = [action(each) for each in automation[key]]
    return mapped
