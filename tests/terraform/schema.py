"""What a resource of the stand-in provider takes and gives: attributes and nested blocks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Attributes and blocks by name, as Terraform holds them: nested blocks are lists of these.
Values = dict[str, Any]


class RefusalError(Exception):
    """What the provider tells Terraform instead of a result: one sentence, and its cause."""

    def __init__(self, summary: str, detail: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail


@dataclass(frozen=True)
class Attribute:
    """An attribute, optional unless it says otherwise; `type` is in the protocol's JSON."""

    type: str = '"string"'
    required: bool = False
    computed: bool = False
    sensitive: bool = False
    write_only: bool = False
    replaces: bool = False
    """A change of it makes the object anew."""


@dataclass(frozen=True)
class Block:
    """Blocks of one name inside another; `most` is 0 where their number has no bound."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    blocks: Mapping[str, "Block"] = field(default_factory=dict)
    least: int = 0
    most: int = 0
    is_set: bool = False


@dataclass(frozen=True)
class Resource:
    """A resource: how it is written (created or updated), read and deleted.

    `write` gets all arguments, write-only ones included, and returns what it computed; `read`
    returns what the server says now, or None when the object is gone.
    """

    schema: Block
    write: Callable[[Any, Values, Values | None], Values]
    read: Callable[[Any, Values], Values | None]
    delete: Callable[[Any, Values], None]


@dataclass(frozen=True)
class Source:
    """A data source or an ephemeral resource: `read` returns what it computed."""

    schema: Block
    read: Callable[[Any, Values], Values]


@dataclass(frozen=True)
class Provider:
    """A provider: `connect` turns its configuration into what resources get first."""

    schema: Block
    connect: Callable[[Values], Any]
    resources: Mapping[str, Resource]
    data_sources: Mapping[str, Source]
    ephemeral_resources: Mapping[str, Source]
