"""Concurrency limits: global ones by name, and those of task runs by tag.

The server keeps both in one table, and those of deployments too: the names say which is which.
"""

from typing import Annotated, Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from pydantic import Field, TypeAdapter

from prefect_platform.configuration.core.prefect_api import delete, pages
from prefect_platform.configuration.core.resource import Declared, Found, Inventory, Key, Kind
from prefect_platform.configuration.core.section import Section, each
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source

_TAG, _DEPLOYMENT = "tag:", "deployment:"  # prefixes that the server gives
Slots = Annotated[int, Field(ge=0)]


class ConcurrencyLimit(Section):
    """How many may hold a slot of `prefect.concurrency` at once."""

    limit: Slots
    """Slots; 0 lets nobody in."""
    slot_decay_per_second: Annotated[float, Field(ge=0)] = 0.0
    """Slots that come free by themselves each second, for a rate limit; 0: only when released."""
    active: bool | None = None
    """false: the limit is not enforced. Not given: left as it is on the server."""


def declare(source: Source, section: str) -> list[Declared]:
    """Return the global limits that `section` asks for; raises ConfigurationError."""

    def one(name: str, raw: Any) -> list[Declared]:  # noqa: ANN401
        limit = ConcurrencyLimit.model_validate(raw)
        GlobalConcurrencyLimitCreate(name=name, limit=limit.limit)
        if name.startswith((_TAG, _DEPLOYMENT)):
            raise ConfigurationError(
                [
                    Problem(
                        source.at(section, name),
                        f"{name}: the server uses names with {_TAG} and {_DEPLOYMENT} itself",
                        "choose another name, or declare it in tag_concurrency_limits or in "
                        "prefect.yaml",
                    )
                ]
            )
        body = limit.model_dump(mode="json", exclude_none=True)
        return [Declared(Key(Kind.CONCURRENCY_LIMIT, name), body, source.at(section, name))]

    return each(source, section, one)


def declare_by_tag(source: Source, section: str) -> list[Declared]:
    """Return the limits by tag that `section` asks for; raises ConfigurationError."""

    def one(tag: str, raw: Any) -> list[Declared]:  # noqa: ANN401
        limit = TypeAdapter(Slots).validate_python(raw, strict=True)
        GlobalConcurrencyLimitCreate(name=f"{_TAG}{tag}", limit=limit)
        key = Key(Kind.TAG_CONCURRENCY_LIMIT, tag)
        return [Declared(key, {"limit": limit}, source.at(section, tag))]

    return each(source, section, one)


class _Limits:
    """What both kinds do alike."""

    prefix = ""

    def create(self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared) -> UUID:
        """Create the limit."""
        created = client.request(
            "POST",
            "/v2/concurrency_limits/",
            json={"name": f"{self.prefix}{declared.key.name}", **declared.body},
        )
        return UUID(created.json()["id"])

    def update(
        self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Set what is declared; slots that are taken stay taken."""
        client.request(
            "PATCH",
            "/v2/concurrency_limits/{id_or_name}",
            path_params={"id_or_name": found.id},
            json=dict(declared.body),
        )

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete it."""
        delete(client, "/v2/concurrency_limits/{id_or_name}", id_or_name=found.id)


class ConcurrencyLimits(_Limits):
    """The verbs of global limits."""

    kind = Kind.CONCURRENCY_LIMIT

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
    """The verbs of limits by tag."""

    kind = Kind.TAG_CONCURRENCY_LIMIT
    prefix = _TAG

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
