"""The model of a resource: a name, a body that can be compared, and four operations.

A body is JSON in the form of the files: it refers to other resources by name instead of by id,
contains all defaults, and omits what only the server decides (ids, times, counters). The declared
and the found body are therefore equal exactly when there is nothing to do, and a found body can be
written to a file.
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
    """A resource by kind and name. Ids are not used, because they differ between servers.

    Names: `TYPE/NAME` of a block, `POOL/QUEUE` of a work queue, `FLOW/NAME` of a deployment.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Declared:
    """A resource that a file declares.

    `needs` are the resources that its body names. `secrets` are the values in the body that came
    from a reference: the steps into the body, and the reference as written in the file.
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
    """The resources on the server that have been read; translates names into ids and back."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Found] = {}
        self._by_id: dict[UUID, Key] = {}

    def add(self, resources: Iterable[Found]) -> None:
        """Add resources that were read or created."""
        for found in resources:
            self._by_key[found.key] = found
            self._by_id[found.id] = found.key

    def remove(self, key: Key) -> None:
        """Remove a resource that was deleted."""
        del self._by_id[self._by_key.pop(key).id]

    def get(self, key: Key) -> Found | None:
        """Return the resource, None when the server does not have it."""
        return self._by_key.get(key)

    def id(self, key: Key) -> UUID:
        """Return the id of a resource; raises KeyError when the server does not have it."""
        return self._by_key[key].id

    def key(self, resource_id: UUID) -> Key | None:
        """Return the resource with this id, None when no resource that was read has it."""
        return self._by_id.get(resource_id)

    def of(self, kind: Kind) -> list[Found]:
        """Return all resources of a kind, sorted by name."""
        return [each for each in self.all() if each.key.kind is kind]

    def all(self) -> list[Found]:
        """Return all resources, sorted by the order of creation and by name."""
        order = list(Kind)
        return sorted(
            self._by_key.values(), key=lambda each: (order.index(each.key.kind), each.key.name)
        )


Secrets = list[dict[str, Any]]
"""The secret values of a resource: `at` are the steps into its body, `from` is the reference."""


class ResourceType(Protocol):
    """The operations on one kind of resource; errors of the API pass through.

    `inventory` contains at least the kinds that precede this one in `Kind`, and the resources of
    this kind that `needs` names.
    """

    kind: Kind

    def read(self, client: SyncPrefectClient, inventory: Inventory) -> list[Found]:
        """Return all resources of this kind that the server has."""

    def create(self, client: SyncPrefectClient, inventory: Inventory, declared: Declared) -> UUID:
        """Create the resource and return its id."""

    def update(
        self, client: SyncPrefectClient, inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Change the found resource to what is declared."""

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete the resource; it is no error if it does not exist."""


@runtime_checkable
class FileSection(ResourceType, Protocol):
    """A kind that has a section in platform.yaml."""

    section: str

    def declare(self, source: Source, context: Context) -> list[Declared]:
        """Return what the section of a file declares; raises ConfigurationError."""

    def json_schema(self) -> dict[str, Any]:
        """Return the section's JSON schema, for editors."""

    def export(
        self, inventory: Inventory, secrets: Mapping[Key, Secrets], context: Context
    ) -> dict[str, Any]:
        """Return the section that would declare what the server has, without defaults."""
