"""Variables: small JSON values that flows read by name."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from pydantic import Field, JsonValue

from prefect_platform.configuration.core.lock import LOCK
from prefect_platform.configuration.core.prefect_api import delete, pages
from prefect_platform.configuration.core.resource import Body, Declared, Found, Inventory, Key, Kind
from prefect_platform.configuration.core.section import Section, each
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source


class Variable(Section):
    """A value that flows read by `Variable.get`."""

    value: JsonValue
    """Any JSON value of less than 5,000 characters, never a secret: every run can read it."""
    tags: list[str] = Field(default_factory=list)
    """Labels to find it by."""


def declare(source: Source, section: str) -> list[Declared]:
    """Return the variables that `section` asks for; raises ConfigurationError."""

    def one(name: str, raw: Any) -> list[Declared]:  # noqa: ANN401
        variable = Variable.model_validate(raw)
        VariableCreate(name=name, value=variable.value, tags=variable.tags)
        if name == LOCK:
            cause = f"{name} is the lock of `apply` itself"
            raise ConfigurationError([Problem(source.at(section, name), cause, "rename it")])
        body = variable.model_dump(mode="json")
        return [Declared(Key(Kind.VARIABLE, name), body, source.at(section, name))]

    return each(source, section, one)


class Variables:
    """The verbs of variables."""

    kind = Kind.VARIABLE

    def read(self, client: SyncPrefectClient, _inventory: Inventory) -> list[Found]:
        """Return all variables but the one that is the lock."""
        return [
            Found(
                Key(self.kind, found["name"]),
                UUID(found["id"]),
                {"value": found["value"], "tags": found["tags"]},
            )
            for found in pages(client, "/variables/filter")
            if found["name"] != LOCK
        ]

    def create(self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared) -> UUID:
        """Create the variable."""
        created = client.request("POST", "/variables/", json=_json(declared.key, declared.body))
        return UUID(created.json()["id"])

    def update(
        self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Set value and tags."""
        client.request(
            "PATCH",
            "/variables/{id}",
            path_params={"id": found.id},
            json=_json(declared.key, declared.body),
        )

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete it."""
        delete(client, "/variables/{id}", id=found.id)


def _json(key: Key, body: Body) -> dict[str, Any]:
    return {"name": key.name, **body}
