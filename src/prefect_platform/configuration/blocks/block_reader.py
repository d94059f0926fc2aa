"""Read the blocks that a file declares, and check them with the classes of their types."""

import difflib
import json
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from prefect.blocks.core import Block
from prefect.logging.loggers import disable_logger
from prefect.types.names import BlockDocumentName
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, to_jsonable_python

from prefect_platform.configuration.blocks import block_types
from prefect_platform.configuration.blocks.block_types import TYPE, Pattern, below
from prefect_platform.configuration.core.context import Context, Placeholder
from prefect_platform.configuration.core.reader import Reader
from prefect_platform.configuration.core.resource import Declared, Key, Kind
from prefect_platform.configuration.core.secret_values import (
    Steps,
    Value,
    is_reference,
    is_secret_reference,
    literal,
    resolve,
)
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source

_NAME = TypeAdapter[str](BlockDocumentName)


@dataclass
class _Draft:
    """What is known about a block while its fields are read."""

    secrets: dict[Steps, Mapping[str, Any]] = field(default_factory=dict)
    # Steps to values that are unknown, because the check is offline or the value was refused.
    placeholders: set[Steps] = field(default_factory=set)
    references: dict[str, str] = field(default_factory=dict)
    # False if it refers to a block that is not in the file, because its fields are unknown.
    complete: bool = True


class BlockReader(Reader):
    """Reads the blocks of a section, each once and after those that it refers to."""

    def __init__(
        self,
        source: Source,
        section: str,
        named: Mapping[str, Any],
        context: Context,
    ) -> None:
        super().__init__(source)
        self._declared: list[Declared] = []
        self._section = section
        self._named = named
        self._context = context
        self._types = block_types.installed()
        self._blocks: dict[str, Block | None] = {}
        self._chain: list[str] = []

    def declared(self, name: str, _fields: object) -> list[Declared]:
        """Return the block and those that it refers to, except those returned by an earlier call.

        Raises ConfigurationError with all problems in them.
        """
        self._block(name)
        declared, self._declared = self._declared, []
        problems, self._problems = self._problems, []
        if problems:
            raise ConfigurationError(problems)
        return declared

    def _block(self, name: str) -> Block | None:
        """Read a block of the file once, after those it refers to; None when it has a problem."""
        if name not in self._blocks:
            self._chain.append(name)
            before = len(self._problems)
            block = self._read(name)
            self._blocks[name] = block if len(self._problems) == before else None
            self._chain.pop()
        return self._blocks[name]

    def _read(self, name: str) -> Block | None:
        steps: Steps = (self._section, name)
        at = self._source.at(*steps)
        block_type = self._type_of(name, steps)
        if block_type is None:
            return None
        written = {} if self._named[name] is None else self._named[name]
        if not isinstance(written, Mapping):
            self._problems.append(self._source.no_mapping(*steps))
            return None
        draft = _Draft()
        annotations = block_types.fields(block_type)
        patterns = set(block_types.own_secret_patterns(block_type))
        resolved = {
            key: self._resolved(
                value,
                (*steps, key),
                below(patterns, key),
                draft,
                takes_mapping=isinstance(value, Mapping | list)
                and _takes_mapping(annotations.get(key)),
            )
            for key, value in written.items()
        }
        before = len(self._problems)
        block, problems = self._build(block_type, resolved, steps, draft, top=True)
        self._problems += problems
        if len(self._problems) > before:
            return None
        try:
            # Check what the file says, because pydantic turns values that JSON lacks into null.
            plain = to_jsonable_python(resolved)
            json.dumps(plain, allow_nan=False)
        except (TypeError, ValueError):
            self._refuse(steps, f"{name} has a value that JSON cannot represent", "correct it")
            return None
        body = plain if block is None else block_types.saved(block, draft.references)
        body |= {key: {"block": target} for key, target in draft.references.items()}
        secrets = {place[len(steps) :]: each for place, each in draft.secrets.items()}
        by_reference = {tuple(str(step) for step in place) for place in secrets}
        self._declared.append(
            Declared(
                key=Key(Kind.BLOCK, name),
                body=block_types.concealed(body, patterns | by_reference),
                at=at,
                needs=frozenset(Key(Kind.BLOCK, each) for each in draft.references.values()),
                secrets=secrets,
            )
        )
        return block

    def _type_of(self, name: str, steps: Steps) -> type[Block] | None:
        """Return the block type that a block's name begins with, None when the name is invalid."""
        type_slug, slash, own_name = name.partition("/")
        if not slash:
            self._problems.append(self._no_name(name, steps))
            return None
        if type_slug not in self._types:
            self._problems.append(self._unknown_type(steps, type_slug))
            return None
        try:
            _NAME.validate_python(own_name)
        except ValidationError as error:
            self._problems += self._source.problems(error, *steps)
            return None
        return self._types[type_slug]

    def _resolved(
        self,
        value: Value,
        steps: Steps,
        patterns: set[Pattern],
        draft: _Draft,
        *,
        takes_mapping: bool,
    ) -> Value:
        """Return `value` with its references resolved; refuses literal values of secret fields."""
        secret = () in patterns
        mapping = ("*",) in patterns
        if (
            is_secret_reference(value)
            if takes_mapping and not (secret or mapping)
            else is_reference(value)
        ):
            draft.secrets[steps] = value
            return self._referenced(value, steps, draft, as_mapping=mapping)
        if isinstance(value, Mapping):
            return {
                key: self._resolved(
                    each, (*steps, key), below(patterns, key), draft, takes_mapping=takes_mapping
                )
                for key, each in value.items()
            }
        if isinstance(value, list):
            return [
                self._resolved(each, (*steps, index), patterns, draft, takes_mapping=takes_mapping)
                for index, each in enumerate(value)
            ]
        if secret and value is not None:
            self._problems.append(literal(self._source, steps))
            draft.placeholders.add(steps)
        return value

    def _referenced(
        self, reference: Mapping[str, Any], steps: Steps, draft: _Draft, *, as_mapping: bool
    ) -> Value:
        """Return the value that a reference names, an empty one when it is unknown."""
        text = resolve(reference, self._source, steps, self._context)
        value: Value = text
        if as_mapping and not isinstance(text, Problem | Placeholder):
            value = self._mapping(text, steps)
        if isinstance(value, Problem):
            self._problems.append(value)
        if isinstance(value, Problem | Placeholder):
            draft.placeholders.add(steps)
            return {} if as_mapping else ""
        return value

    def _mapping(self, text: str, steps: Steps) -> dict[str, Any] | Problem:
        """Return the mapping that a Secret contains as JSON, or the problem with it."""
        with suppress(ValueError):
            content = json.loads(text)
            if isinstance(content, dict):
                return content
        return Problem(
            self._source.at(*steps),
            f"{steps[-1]}: the value is not a JSON object",
            "store a JSON object there, or write a reference for each key",
        )

    def _build(
        self,
        block_type: type[Block],
        data: Mapping[str, Any],
        steps: Steps,
        draft: _Draft,
        *,
        top: bool,
    ) -> tuple[Block | None, list[Problem]]:
        """Return the block, or None, and the problems.

        None without problems means that only placeholders failed the check.
        """
        annotations = block_types.fields(block_type)
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        unknown = set(draft.placeholders)
        for key, value in data.items():
            if key == TYPE and not top:
                continue
            if key not in annotations:
                problems.append(self._source.unknown_key(*steps, key, known=annotations))
                continue
            choices = block_types.nested(annotations[key])
            if choices:
                values[key], wrong = self._nested(choices, value, (*steps, key), draft, top=top)
                problems += wrong
                if wrong:
                    unknown.add((*steps, key))
            else:
                values[key] = deepcopy(value)
        try:
            block = block_types.instance(block_type, values)
            if not unknown and draft.complete:
                _try(block)
        except ValidationError as error:
            wrong = self._refused(error, steps, draft, unknown)
            return None, problems + wrong
        except Exception as error:  # noqa: BLE001 - code of any package
            shown = "" if draft.secrets or draft.placeholders else f": {error}"
            cause = f"{block_types.slug(block_type)} cannot be used with these values{shown}"
            fix = "correct them, or the Secrets that they come from"
            return None, [*problems, Problem(self._source.at(*steps), cause, fix)]
        kept = block_types.saved(block)
        problems += [
            self._source.unknown_key(*place, known=known)
            for key in values
            if not block_types.nested(annotations[key])
            for place, known in _lost(values[key], kept[key], (*steps, key))
        ]
        return block, problems

    def _nested(
        self,
        choices: list[type[Block]],
        value: Value,
        steps: Steps,
        draft: _Draft,
        *,
        top: bool,
    ) -> tuple[Value, list[Problem]]:
        """Return the block or the list of blocks that the value of a field declares."""
        if isinstance(value, list):
            read = [
                self._nested(choices, each, (*steps, index), draft, top=False)
                for index, each in enumerate(value)
            ]
            return [each for each, _ in read], [one for _, problems in read for one in problems]
        if not isinstance(value, Mapping):
            return value, []
        if set(value) == {"block"}:
            return self._referred(choices, value["block"], steps, draft, top=top)
        return self._inline(choices, value, steps, draft)

    def _inline(
        self,
        choices: list[type[Block]],
        value: Mapping[str, Any],
        steps: Steps,
        draft: _Draft,
    ) -> tuple[Block | None, list[Problem]]:
        """Return the block whose fields are written inside a field of another block."""
        if TYPE in value:
            fitting, problems = self._fitting(choices, str(value[TYPE]), (*steps, TYPE))
            if fitting is None:
                return None, problems
            return self._build(fitting, value, steps, draft, top=False)
        built = [
            self._build(each, value, steps, draft, top=False)
            for each in choices
            if not block_types.is_abstract(each)
        ]
        # Assume that the type with the fewest problems is the one that was meant.
        built.sort(key=lambda each: len(each[1]))
        if not built or (len(built) > 1 and len(built[0][1]) == len(built[1][1])):
            names = " or ".join(self._names(choices))
            cause = f"{steps[-1]} can be {names}, but its fields do not identify one of them"
            return None, [Problem(self._source.at(*steps), cause, f"add {TYPE}")]
        return built[0]

    def _fitting(
        self, choices: list[type[Block]], type_slug: str, steps: Steps
    ) -> tuple[type[Block] | None, list[Problem]]:
        """Return the block type with this slug if it is among `choices`, or the problem."""
        block_type = self._types.get(type_slug)
        if block_type is None:
            return None, [self._unknown_type(steps, type_slug)]
        if not issubclass(block_type, tuple(choices)):
            cause = f"a block of type {type_slug} is not allowed here"
            fix = f"use a block of type {' or '.join(self._names(choices))}"
            return None, [Problem(self._source.at(*steps), cause, fix)]
        return block_type, []

    def _names(self, choices: list[type[Block]]) -> list[str]:
        return [name for name, each in self._types.items() if issubclass(each, tuple(choices))]

    def _referred(
        self, choices: list[type[Block]], target: Value, steps: Steps, draft: _Draft, *, top: bool
    ) -> tuple[Block | None, list[Problem]]:
        """Return the block that is named, or an empty one when it is not in the file."""
        at = self._source.at(*steps)
        type_slug, slash, _ = str(target).partition("/")
        if not slash:
            return None, [self._no_name(target, steps)]
        block_type, problems = self._fitting(choices, type_slug, steps)
        if block_type is None:
            return None, problems
        if not top:
            cause = (
                f"{target} is referenced inside an inline block, where Prefect does not support it"
            )
            fix = "declare the inline block as a block of its own, and refer to that"
            return None, [Problem(at, cause, fix)]
        draft.references[str(steps[-1])] = target
        if target in self._chain:
            chain = " needs ".join([*self._chain[self._chain.index(target) :], target])
            cause = f"these blocks need each other: {chain}"
            return None, [Problem(at, cause, "remove one of these references")]
        block = self._block(target) if target in self._named else None
        if block is None:
            draft.complete = False
            block = block_type.model_construct()
        return block, []

    def _refused(
        self, error: ValidationError, steps: Steps, draft: _Draft, unknown: set[Steps]
    ) -> list[Problem]:
        """Return pydantic's errors, except those that depend on an unknown value."""
        errors: list[Any] = []
        for each in error.errors():
            place = (*steps, *each["loc"])
            if any(place[: len(without_value)] == without_value for without_value in unknown):
                continue
            kind: Any = each["type"]
            if (draft.secrets or draft.placeholders) and kind in ("value_error", "assertion_error"):
                # The message is the block type's own and may contain the refused value.
                kind = PydanticCustomError("refused", "the block type refuses the value")
            errors.append(
                {
                    "type": kind,
                    "loc": each["loc"],
                    "input": None,
                    "ctx": each.get("ctx", {}),
                }
            )
        if not errors:
            return []
        return self._source.problems(
            ValidationError.from_exception_data(error.title, errors), *steps
        )

    def _unknown_type(self, steps: Steps, type_slug: str) -> Problem:
        package = block_types.package_of(type_slug)
        if package is not None:
            fix = f"add the package {package}, which provides it, to the images"
        else:
            similar = difflib.get_close_matches(type_slug, self._types, 1)
            fix = (
                f"did you mean {similar[0]}?"
                if similar
                else f"use one of: {', '.join(self._types)}"
            )
        return Problem(self._source.at(*steps), f"the block type {type_slug} is not installed", fix)

    def _no_name(self, name: object, steps: Steps) -> Problem:
        cause = f"{name} is not the name of a block"
        return Problem(
            self._source.at(*steps), cause, "write TYPE/NAME, such as slack-webhook/night"
        )


def _try(block: Block) -> None:
    """Initialize the block as Prefect does on loading; raises only errors about its values."""
    try:
        with disable_logger("apprise"):  # it logs what it refuses
            block.block_initialization()
    except (ArithmeticError, LookupError, TypeError, ValueError):
        raise
    except Exception:  # noqa: BLE001, S110 - such as Google's: this machine has no credentials
        # The error is about this machine, but the block is meant for another one.
        pass


def _takes_mapping(annotation: Value) -> bool:
    """Return whether {file: ...} is valid content of the field, and so not a reference."""
    if block_types.nested(annotation):
        return False
    example = {"file": "name"}
    try:
        return bool(TypeAdapter[Any](annotation).validate_python(example) == example)
    except (ValidationError, PydanticUserError):
        return False


def _lost(written: object, kept: object, steps: Steps) -> list[tuple[Steps, list[str]]]:
    """Return where validation dropped a key because a model does not have it.

    Each entry has the steps to the key and the keys that the model kept.
    """
    if isinstance(written, Mapping) and isinstance(kept, Mapping):
        return [
            each
            for key, value in written.items()
            for each in (
                _lost(value, kept[str(key)], (*steps, key))
                if str(key) in kept
                else [((*steps, key), list(kept))]
            )
        ]
    if isinstance(written, list) and isinstance(kept, list) and len(written) == len(kept):
        return [
            each
            for index, value in enumerate(written)
            for each in _lost(value, kept[index], (*steps, index))
        ]
    return []
