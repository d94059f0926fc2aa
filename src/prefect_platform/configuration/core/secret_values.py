"""Resolve references to secret values, and keep secret values from being shown.

A file contains no secrets, only references: {secret: {name: SECRET, key: KEY}} names a key of a
Kubernetes Secret, and {file: PATH} names a file relative to the file with the reference. One line
break at the end is not part of the value, because editors and `kubectl create secret --from-file`
add it and passwords do not end with one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prefect.utilities.names import obfuscate

from prefect_platform.configuration.core.context import Context, Placeholder
from prefect_platform.configuration.core.source import Problem, Source, Step

Steps = tuple[Step, ...]

Value = Any  # JSON, with a SecretValue wherever the value is secret

_SHAPE = "{secret: {name: SECRET, key: KEY}}"


class SecretValue:
    """A value in a body that is compared and sent, but never shown.

    It equals the value that it wraps, so a declared and a found body can be compared even if only
    one of them marks the value as secret. It cannot be serialized to JSON or YAML; use `reveal` to
    send it.
    """

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment] # it equals values that may not be hashable

    def __init__(self, value: str | float | bool) -> None:  # noqa: FBT001 - whatever JSON has
        self.value = value

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, SecretValue) else other))

    def __repr__(self) -> str:
        return "(secret)"


def conceal(value: Value) -> Value:
    """Return `value` with every leaf wrapped in a SecretValue, except None."""
    if isinstance(value, Mapping):
        return {key: conceal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [conceal(each) for each in value]
    return value if value is None or isinstance(value, SecretValue) else SecretValue(value)


def reveal(value: Value) -> Value:
    """Return `value` as plain JSON with its secrets, only for sending to the API."""
    if isinstance(value, Mapping):
        return {key: reveal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [reveal(each) for each in value]
    return value.value if isinstance(value, SecretValue) else value


def secret_steps(body: Value) -> set[Steps]:
    """Return the steps to each SecretValue in a body."""
    return {steps for steps, each in _leaves(body, ()) if isinstance(each, SecretValue)}


def replaced(value: Value, steps: Steps, by: Callable[[Value], Value]) -> Value:
    """Return `value` with `by` applied to the part at `steps`, if there is such a part."""
    if not steps:
        return by(value)
    first, rest = steps[0], steps[1:]
    match value:
        case Mapping() if first in value:
            return {**value, first: replaced(value[first], rest, by)}
        case list() if isinstance(first, int) and first < len(value):
            changed = list(value)
            changed[first] = replaced(value[first], rest, by)
            return changed
        case _:
            return value


def is_reference(value: Value) -> bool:
    """Return whether `value` is meant as a reference, valid or not."""
    return isinstance(value, Mapping) and (set(value) == {"secret"} or set(value) == {"file"})


def is_secret_reference(value: Value) -> bool:
    """Return whether `value` is unambiguously a reference to a key of a Secret."""
    return (
        isinstance(value, Mapping)
        and set(value) == {"secret"}
        and isinstance(value["secret"], Mapping)
        and set(value["secret"]) == {"name", "key"}
    )


def resolve(
    reference: Mapping[str, Any], source: Source, steps: Steps, context: Context
) -> str | Problem:
    """Return the value that the reference at `steps` names, or the problem with the reference."""
    read = _file if "file" in reference else _secret
    text = read(reference, source, steps, context)
    if isinstance(text, Problem | Placeholder):
        return text
    text = re.sub(r"\r?\n\Z", "", text)
    if text == obfuscate(text):
        return Problem(
            source.at(*steps),
            "the value is the mask that Prefect shows for a secret, not the secret itself",
            "store the real value there",
        )
    return text


def literal(source: Source, steps: Steps) -> Problem:
    """Return the problem of a secret value that is written in the file."""
    return Problem(
        source.at(*steps),
        f"{steps[-1]} is secret, but its value is written in this file",
        f"refer to the value with {_SHAPE} or {{file: PATH}}; "
        "if the value was committed, replace it, because it is no longer secret",
    )


def _file(
    reference: Mapping[str, Any],
    source: Source,
    steps: Steps,
    context: Context,  # noqa: ARG001
) -> str | Problem:
    at, path = source.at(*steps), reference["file"]
    if not isinstance(path, str):
        return Problem(at, "file: the path is not text", "write {file: PATH}")
    try:
        return (source.path.parent / path).read_bytes().decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return Problem(
            at,
            f"the file {path} cannot be read: {reason}",
            f"paths are relative to {source.path.parent}; create it, or correct the path",
        )


def _secret(
    reference: Mapping[str, Any], source: Source, steps: Steps, context: Context
) -> str | Problem:
    at, named = source.at(*steps), reference["secret"]
    if not is_secret_reference(reference) or not all(
        isinstance(each, str) for each in named.values()
    ):
        return Problem(at, "secret: this is not a reference to a Secret", f"write {_SHAPE}")
    value = context.secret(named["name"], named["key"])
    if value is None:
        return Problem(
            at,
            f"the Secret {named['name']} does not exist, or has no key {named['key']}",
            context.how_to_provide(named["name"]),
        )
    try:
        return value if isinstance(value, Placeholder) else value.decode()
    except UnicodeDecodeError:
        return Problem(
            at,
            f"the key {named['key']} of the Secret {named['name']} is not UTF-8 text, which a "
            "block requires",
            "store text there: encode binary data as base64, and decode it in the flow",
        )


def _leaves(value: Value, steps: Steps) -> Iterator[tuple[Steps, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, (*steps, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(each, (*steps, index))
    else:
        yield steps, value
