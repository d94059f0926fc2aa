"""What a resource of Prefect is to a plan: a name, a body that can be compared, and four verbs.

A body is the JSON that somebody could have written: names of other resources where Prefect has
ids, every default filled in, and nothing that the server alone decides (ids, times, counters).
So the declared and the found body are equal exactly when there is nothing to do, and a found one
can be written into a file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.source import Location, Source

Body = Mapping[str, Any]


class Kind(StrEnum):
    """The kinds of resources, in the order in which they can be created."""

    VARIABLE = "variable"
    CONCURRENCY_LIMIT = "concurrency limit"
    TAG_CONCURRENCY_LIMIT = "tag concurrency limit"
    BLOCK = "block"
    WORK_POOL = "work pool"
    WORK_QUEUE = "work queue"
    DEPLOYMENT = "deployment"
    AUTOMATION = "automation"


@dataclass(frozen=True, order=True)
class Key:
    """A resource by kind and name, never by id: ids differ from server to server.

    Names: `TYPE/NAME` of a block, `POOL/QUEUE` of a work queue, `FLOW/NAME` of a deployment.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Declared:
    """A resource that a file asks for.

    `needs` are the resources that its body names. `secrets` says where in the body a value came
    from a reference: steps into the body, and the reference as it was written.
    """

    key: Key
    body: Body
    at: Location
    needs: frozenset[Key] = frozenset()
    secrets: Mapping[tuple[str | int, ...], Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A resource that the server has."""

    key: Key
    id: UUID
    body: Body


class Inventory:
    """What the server has, as far as it has been read; turns names into ids and back."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Found] = {}
        self._by_id: dict[UUID, Key] = {}

    def add(self, resources: Iterable[Found]) -> None:
        """Remember what was read or created."""
        for found in resources:
            self._by_key[found.key] = found
            self._by_id[found.id] = found.key

    def remove(self, key: Key) -> None:
        """Forget what was deleted."""
        del self._by_id[self._by_key.pop(key).id]

    def get(self, key: Key) -> Found | None:
        """Return the resource, None when the server has none of that name."""
        return self._by_key.get(key)

    def id(self, key: Key) -> UUID:
        """Return the id of a resource that is there; KeyError otherwise."""
        return self._by_key[key].id

    def key(self, resource_id: UUID) -> Key | None:
        """Return whose id it is, None when it is nobody's that was read."""
        return self._by_id.get(resource_id)

    def of(self, kind: Kind) -> list[Found]:
        """Return everything of a kind, by name."""
        return [each for each in self.all() if each.key.kind is kind]

    def all(self) -> list[Found]:
        """Return everything, in the order of creation."""
        order = list(Kind)
        return sorted(
            self._by_key.values(), key=lambda each: (order.index(each.key.kind), each.key.name)
        )


Secrets = list[dict[str, Any]]
"""Where secret values of a resource stand and come from: `at`, steps into its body, and `from`."""


class ResourceType(Protocol):
    """All that the platform does with one kind; errors of the API pass through.

    `inventory` holds at least what stands before this kind in `Kind`, and of the own kind what
    `needs` named.
    """

    kind: Kind

    def read(self, client: SyncPrefectClient, inventory: Inventory) -> list[Found]:
        """Return everything of this kind that the server has, all pages of it."""

    def create(self, client: SyncPrefectClient, inventory: Inventory, declared: Declared) -> UUID:
        """Create the resource and return its id."""

    def update(
        self, client: SyncPrefectClient, inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Make the found resource as it is declared."""

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete it; one that is gone already is no error."""


@runtime_checkable
class FileSection(ResourceType, Protocol):
    """A kind that has a section in platform.yaml."""

    section: str

    def declare(self, source: Source, context: Context) -> list[Declared]:
        """Return what the section of a file asks for; raises ConfigurationError."""

    def json_schema(self) -> dict[str, Any]:
        """Return the section's JSON schema, for editors."""

    def export(
        self, inventory: Inventory, secrets: Mapping[Key, Secrets], context: Context
    ) -> dict[str, Any]:
        """Return the section that declares what the server has, without defaults."""
