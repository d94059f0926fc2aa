"""The operations of kinds that the API serves below one path, which are most of them."""

from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.orchestration.routes import ServerRoutes

from prefect_platform.configuration.core.prefect_api import delete
from prefect_platform.configuration.core.resource import Declared, Found, Inventory


class RestKind:
    """Creates at the route `path`; updates and deletes at `item`, with the parameters from `at`."""

    path: ServerRoutes
    item: ServerRoutes
    updates_by: Literal["PATCH", "PUT"] = "PATCH"

    def at(self, found: Found) -> dict[str, Any]:
        """Return the path parameters of `item`."""
        return {"id": found.id}

    def payload(self, declared: Declared, _inventory: Inventory) -> dict[str, Any]:
        """Return the body of the request that creates a declared resource."""
        return {"name": declared.key.name, **declared.body}

    def change(self, declared: Declared, inventory: Inventory) -> dict[str, Any]:
        """Return the body of the request that updates an existing resource."""
        return self.payload(declared, inventory)

    def create(self, client: SyncPrefectClient, inventory: Inventory, declared: Declared) -> UUID:
        """Create the resource and return its id."""
        made = client.request("POST", self.path, json=self.payload(declared, inventory))
        return UUID(made.json()["id"])

    def update(
        self, client: SyncPrefectClient, inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Set what is declared; anything else stays as it is."""
        client.request(
            self.updates_by,
            self.item,
            path_params=self.at(found),
            json=self.change(declared, inventory),
        )

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete the resource if it still exists."""
        delete(client, self.item, **self.at(found))
