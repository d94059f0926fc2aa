"""The schema of the stand-in provider: its resources, their attributes and nested blocks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Attributes and blocks by name, as in Terraform's state: nested blocks are lists of these.
Values = dict[str, Any]


class RefusalError(Exception):
    """An error that the provider returns to Terraform: a summary and its cause."""

    def __init__(self, summary: str, detail: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail


@dataclass(frozen=True)
class Attribute:
    """An attribute, optional by default; `type` is in the JSON format of the protocol."""

    type: str = '"string"'
    required: bool = False
    computed: bool = False
    sensitive: bool = False
    write_only: bool = False
    replaces: bool = False
    """Whether a change of it replaces the object."""


@dataclass(frozen=True)
class Block:
    """Nested blocks of one name; `most` is 0 if their number is not limited."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    blocks: Mapping[str, "Block"] = field(default_factory=dict)
    least: int = 0
    most: int = 0
    is_set: bool = False


@dataclass(frozen=True)
class Resource:
    """A resource: how it is written (created or updated), read and deleted.

    `write` gets all arguments, including write-only ones, and returns the computed attributes.
    `read` returns the current values on the server, or None if the object no longer exists.
    """

    schema: Block
    write: Callable[[Any, Values, Values | None], Values]
    read: Callable[[Any, Values], Values | None]
    delete: Callable[[Any, Values], None]


@dataclass(frozen=True)
class Source:
    """A data source or an ephemeral resource; `read` returns its computed attributes."""

    schema: Block
    read: Callable[[Any, Values], Values]


@dataclass(frozen=True)
class Provider:
    """A provider; `connect` turns its configuration into the first argument of its resources."""

    schema: Block
    connect: Callable[[Values], Any]
    resources: Mapping[str, Resource]
    data_sources: Mapping[str, Source]
    ephemeral_resources: Mapping[str, Source]
