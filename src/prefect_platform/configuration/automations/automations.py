"""Automations: Prefect's own, with names in place of ids."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.server.events.schemas.automations import AutomationCore

from prefect_platform.configuration.automations import automation_schema
from prefect_platform.configuration.automations.automation_models import body_of
from prefect_platform.configuration.automations.automation_reader import AutomationReader
from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.prefect_api import delete, pages
from prefect_platform.configuration.core.references import to_ids
from prefect_platform.configuration.core.resource import (
    Declared,
    Found,
    Inventory,
    Key,
    Kind,
    Secrets,
)
from prefect_platform.configuration.core.rest import RestKind
from prefect_platform.configuration.core.section import each
from prefect_platform.configuration.core.source import Source
from prefect_platform.errors import PlatformError


class Automations(RestKind):
    """Automations, on a server and in a file.

    Automations that a deployment owns through `triggers` in prefect.yaml come and go with
    `prefect deploy` and are left out. The API does not mark them; they are recognised by the name
    that Prefect gives to a trigger without a name.
    """

    kind = Kind.AUTOMATION
    section = "automations"
    path = "/automations/"
    item = "/automations/{id}"
    updates_by = "PUT"  # leaves `enabled` as it is if the file does not set it

    def declare(self, source: Source, _context: Context) -> list[Declared]:
        """Return the automations that the section declares; raises ConfigurationError."""

        def one(name: str, raw: Any) -> list[Declared]:  # noqa: ANN401
            reader = AutomationReader(source)
            body = reader.automation(name, raw, self.section, name)
            key, at = Key(self.kind, name), source.at(self.section, name)
            return [Declared(key, body, at, needs=frozenset(reader.keys.values()))]

        return each(source, self.section, one)

    def json_schema(self) -> dict[str, Any]:
        """Return the section's JSON schema."""
        return automation_schema.json_schema()

    def export(
        self, inventory: Inventory, _secrets: Mapping[Key, Secrets], _context: Context
    ) -> dict[str, Any]:
        """Return the automations, including those of the alerts."""
        return {found.key.name: dict(found.body) for found in inventory.of(self.kind)}

    def read(self, client: SyncPrefectClient, inventory: Inventory) -> list[Found]:
        """Return all automations; raises PlatformError when two have the same name."""
        rows = list(_rows(client))
        own = {UUID(row["id"]): Key(self.kind, row["name"]) for row in rows}

        def key_of(resource: UUID) -> Key | None:
            return own.get(resource) or inventory.key(resource)

        found = [
            Found(own[UUID(row["id"])], UUID(row["id"]), _body_of_row(row, key_of)) for row in rows
        ]
        found = [each for each in found if not _belongs_to_deployment(each)]
        _refuse_doubles(found)
        return found

    def payload(self, declared: Declared, inventory: Inventory) -> dict[str, Any]:
        """Return the automation with ids in place of names."""
        return {"name": declared.key.name, **to_ids(declared.body, inventory.id)}

    def create(self, client: SyncPrefectClient, inventory: Inventory, declared: Declared) -> UUID:
        """Create the automation once.

        Prefect's client repeats a request whose answer was lost, and the server then creates a
        second automation. Such a duplicate is deleted.
        """
        made = super().create(client, inventory, declared)
        rows = {UUID(row["id"]): row for row in _rows(client, name=declared.key.name)}
        mine = rows.pop(made, None)
        for row_id, row in rows.items():
            if mine and _body_of_row(row) == _body_of_row(mine):
                delete(client, self.item, id=row_id)
        return made


def _body_of_row(
    row: Mapping[str, Any], key_of: Callable[[UUID], Key | None] = lambda _: None
) -> dict[str, Any]:
    return body_of(AutomationCore.model_validate(row), key_of)


def _rows(client: SyncPrefectClient, name: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield each automation once, newest first, so that a new one cannot hide another."""
    seen: set[str] = set()
    wanted = {
        "sort": "CREATED_DESC",
        "automations": {"name": {"any_": [name]}} if name is not None else None,
    }
    for row in pages(client, "/automations/filter", wanted):
        if row["id"] not in seen:
            yield row
        seen.add(row["id"])


def _belongs_to_deployment(found: Found) -> bool:
    actions = found.body["actions"]
    if len(actions) != 1 or actions[0]["type"] != "run-deployment":
        return False
    _, _, deployment = (actions[0]["deployment"] or "").partition("/")
    return bool(re.fullmatch(rf"{re.escape(deployment)}__automation_\d+", found.key.name))


def _refuse_doubles(found: Sequence[Found]) -> None:
    ids: dict[str, list[str]] = {}
    for one in found:
        ids.setdefault(one.key.name, []).append(str(one.id))
    doubles = {name: same for name, same in ids.items() if len(same) > 1}
    if doubles:
        listed = "; ".join(
            f"{name}: {', '.join(sorted(same))}" for name, same in sorted(doubles.items())
        )
        first = sorted(next(iter(doubles.values())))[-1]
        raise PlatformError(
            "the server has several automations with the same name, which has to be unique: "
            f"{listed}",
            next_step="keep one of each name, and rename or delete the others, "
            f"for example: prefect automation delete --id {first}",
        )
