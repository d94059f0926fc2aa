"""Concurrency limits: global ones by name, and limits of task runs by tag.

The server keeps both, and the limits of deployments, in one table; a prefix of the name tells them
apart.
"""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from pydantic import Field, TypeAdapter

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.prefect_api import pages
from prefect_platform.configuration.core.resource import (
    Declared,
    Found,
    Inventory,
    Key,
    Kind,
    Secrets,
)
from prefect_platform.configuration.core.rest import RestKind
from prefect_platform.configuration.core.section import (
    Section,
    each,
    schema_by_name,
    without_defaults,
)
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source

_TAG, _DEPLOYMENT = "tag:", "deployment:"  # prefixes that the server adds
Slots = Annotated[int, Field(ge=0)]


class ConcurrencyLimit(Section):
    """A global concurrency limit: how many slots `prefect.concurrency` gives out at the same
    time."""

    limit: Slots
    """Number of slots. With 0 no slot is given out."""
    slot_decay_per_second: Annotated[float, Field(ge=0)] = 0.0
    """Number of slots that are released automatically each second, for a rate limit. With 0, the
    default, a slot is free only when its holder releases it."""
    active: bool | None = None
    """Whether the limit is enforced. If it is not set, the value on the server is kept."""


class _Limits(RestKind):
    """What both kinds have in common. An update does not release slots that are in use."""

    path = "/v2/concurrency_limits/"
    item = "/v2/concurrency_limits/{id_or_name}"
    prefix = ""

    def at(self, found: Found) -> dict[str, Any]:
        """Return the limit's id, because its name may contain characters not allowed in a path."""
        return {"id_or_name": found.id}

    def payload(self, declared: Declared, _inventory: Inventory) -> dict[str, Any]:
        """Return the limit with the prefix that the server expects in its name."""
        return {"name": f"{self.prefix}{declared.key.name}", **declared.body}


class ConcurrencyLimits(_Limits):
    """Global limits, by name."""

    kind = Kind.CONCURRENCY_LIMIT
    section = "concurrency_limits"

    def declare(self, source: Source, _context: Context) -> list[Declared]:
        """Return the global limits that the section declares; raises ConfigurationError."""

        def one(name: str, raw: Any) -> list[Declared]:  # noqa: ANN401
            limit = ConcurrencyLimit.model_validate(raw)
            GlobalConcurrencyLimitCreate(name=name, limit=limit.limit)
            at = source.at(self.section, name)
            if name.startswith((_TAG, _DEPLOYMENT)):
                cause = f"{name}: the server reserves names that start with {_TAG} or {_DEPLOYMENT}"
                fix = "choose another name, or declare it in tag_concurrency_limits or in "
                raise ConfigurationError([Problem(at, cause, f"{fix}prefect.yaml")])
            body = limit.model_dump(mode="json", exclude_none=True)
            return [Declared(Key(self.kind, name), body, at)]

        return each(source, self.section, one)

    def json_schema(self) -> dict[str, Any]:
        """Return the section's JSON schema."""
        return schema_by_name(ConcurrencyLimit, "Global concurrency limits by name.")

    def export(
        self, inventory: Inventory, _secrets: Mapping[Key, Secrets], _context: Context
    ) -> dict[str, Any]:
        """Return the limits without their defaults."""
        return {
            found.key.name: without_defaults(ConcurrencyLimit, found.body, "active")
            for found in inventory.of(self.kind)
        }

    def read(self, client: SyncPrefectClient, _inventory: Inventory) -> list[Found]:
        """Return the global limits."""
        return [
            Found(
                Key(self.kind, found["name"]),
                UUID(found["id"]),
                {name: found[name] for name in ConcurrencyLimit.model_fields},
            )
            for found in pages(client, "/v2/concurrency_limits/filter")
            if not found["name"].startswith((_TAG, _DEPLOYMENT))
        ]


class TagConcurrencyLimits(_Limits):
    """Limits of task runs, by tag."""

    kind = Kind.TAG_CONCURRENCY_LIMIT
    section = "tag_concurrency_limits"
    prefix = _TAG

    def declare(self, source: Source, _context: Context) -> list[Declared]:
        """Return the limits by tag that the section declares; raises ConfigurationError."""

        def one(tag: str, raw: Any) -> list[Declared]:  # noqa: ANN401
            limit = TypeAdapter(Slots).validate_python(raw, strict=True)
            GlobalConcurrencyLimitCreate(name=f"{_TAG}{tag}", limit=limit)
            at = source.at(self.section, tag)
            return [Declared(Key(self.kind, tag), {"limit": limit}, at)]

        return each(source, self.section, one)

    def json_schema(self) -> dict[str, Any]:
        """Return the section's JSON schema."""
        return {
            "description": "Number of task runs with a tag that may run at the same time, by tag.",
            "type": "object",
            "additionalProperties": TypeAdapter(Slots).json_schema(),
        }

    def export(
        self, inventory: Inventory, _secrets: Mapping[Key, Secrets], _context: Context
    ) -> dict[str, Any]:
        """Return the limits."""
        return {found.key.name: found.body["limit"] for found in inventory.of(self.kind)}

    def read(self, client: SyncPrefectClient, _inventory: Inventory) -> list[Found]:
        """Return the limits by tag."""
        return [
            Found(
                Key(self.kind, found["name"].removeprefix(_TAG)),
                UUID(found["id"]),
                {"limit": found["limit"]},
            )
            for found in pages(client, "/v2/concurrency_limits/filter")
            if found["name"].startswith(_TAG)
        ]
