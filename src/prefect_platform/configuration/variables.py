"""Variables: small JSON values that flows read by name."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from pydantic import Field, JsonValue

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.lock import LOCK
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
from prefect_platform.run_identity.grants import is_of_grants


class Variable(Section):
    """A value that flows read with `Variable.get`."""

    value: JsonValue
    """Any JSON value of less than 5,000 characters. Do not put a secret here: every run can read
    it."""
    tags: list[str] = Field(default_factory=list)
    """Tags with which the variable can be found."""


class Variables(RestKind):
    """Variables, on a server and in a file."""

    kind = Kind.VARIABLE
    section = "variables"
    path = "/variables/"
    item = "/variables/{id}"

    def declare(self, source: Source, _context: Context) -> list[Declared]:
        """Return the variables that the section declares; raises ConfigurationError."""

        def one(name: str, raw: Any) -> list[Declared]:  # noqa: ANN401
            variable = Variable.model_validate(raw)
            VariableCreate(name=name, value=variable.value, tags=variable.tags)
            at = source.at(self.section, name)
            if name == LOCK:
                cause = f"the name {name} is reserved for the lock of `apply`"
                raise ConfigurationError([Problem(at, cause, "rename it")])
            if is_of_grants(name):
                cause = f"the name {name} is reserved for the grants of a work pool"
                fix = "write them as `grants` of the pool in work_pools"
                raise ConfigurationError([Problem(at, cause, fix)])
            return [Declared(Key(self.kind, name), variable.model_dump(mode="json"), at)]

        return each(source, self.section, one)

    def json_schema(self) -> dict[str, Any]:
        """Return the section's JSON schema."""
        return schema_by_name(Variable, "Variables, which flows read by name.")

    def export(
        self, inventory: Inventory, _secrets: Mapping[Key, Secrets], _context: Context
    ) -> dict[str, Any]:
        """Return the variables without their defaults."""
        return {
            found.key.name: without_defaults(Variable, found.body)
            for found in inventory.of(self.kind)
            if not is_of_grants(found.key.name)
        }

    def read(self, client: SyncPrefectClient, _inventory: Inventory) -> list[Found]:
        """Return all variables except the one that serves as lock."""
        return [
            Found(
                Key(self.kind, found["name"]),
                UUID(found["id"]),
                {"value": found["value"], "tags": found["tags"]},
            )
            for found in pages(client, "/variables/filter")
            if found["name"] != LOCK
        ]
