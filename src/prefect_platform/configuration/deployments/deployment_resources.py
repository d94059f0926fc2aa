"""Read, create, update and delete deployments."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.configuration.core.prefect_api import delete, pages
from prefect_platform.configuration.core.resource import Body, Declared, Found, Inventory, Key, Kind
from prefect_platform.configuration.deployments import schedules
from prefect_platform.configuration.deployments.deployment_models import LABELS

_AS_SERVED = (
    "entrypoint",
    "path",
    "pull_steps",
    "description",
    "version",
    "tags",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "job_variables",
    "concurrency_options",
    "paused",
)


class Deployments:
    """Deployments on a server.

    Flows are created with their deployments and never deleted, because they have the runs' history.
    """

    kind = Kind.DEPLOYMENT

    def read(self, client: SyncPrefectClient, _inventory: Inventory) -> list[Found]:
        """Return all deployments of all flows."""
        # Names are unique only within a flow, so pages sorted by name could skip a deployment.
        deployments = list(pages(client, "/deployments/filter", {"sort": "CREATED_DESC"}))
        flows = {flow["id"]: flow["name"] for flow in pages(client, "/flows/filter")}
        return [
            Found(
                Key(self.kind, f"{flows[found['flow_id']]}/{found['name']}"),
                UUID(found["id"]),
                _body(found),
            )
            for found in deployments
        ]

    def create(self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared) -> UUID:
        """Create the deployment, and its flow if the server does not have it."""
        return _put(client, declared, {})

    def update(
        self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Replace the deployment in one transaction; paused schedules stay paused.

        The server reschedules the deployment's future runs, as after every change. Late runs are
        kept; deleting a single schedule would delete the late runs of all schedules.
        """
        shares = isinstance(found.body["concurrency_limit"], str)
        # Otherwise the server would delete or change a limit that is shared with others.
        detached = {"global_concurrency_limit_id": None} if shares else {}
        _put(client, declared, found.body, **detached)

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete the deployment and its runs that have not started, including late ones."""
        delete(client, "/deployments/{id}", id=found.id)


def _put(
    client: SyncPrefectClient,
    declared: Declared,
    found: Body,
    **more: Any,  # noqa: ANN401
) -> UUID:
    """Create the deployment, or replace the one with its name and all of its schedules."""
    flow, _, name = declared.key.name.partition("/")
    flow_id = client.request("POST", "/flows/", json={"name": flow}).json()["id"]
    body = declared.body
    served = client.request(
        "POST",
        "/deployments/",
        json={
            "name": name,
            "flow_id": flow_id,
            **{key: body[key] for key in _AS_SERVED if key in body},
            "labels": body["labels"],
            "work_pool_name": body["work_pool"],
            "work_queue_name": body["work_queue"],
            "concurrency_limit": body["concurrency_limit"],
            "schedules": [
                schedules.create(schedule, active=_active(schedule["slug"], body, found))
                for schedule in body["schedules"]
            ],
            **more,
        },
    )
    return UUID(served.json()["id"])


def _active(slug: str, declared: Body, found: Body) -> bool:
    key = schedules.active_key(slug)
    active: bool = declared.get(key, found.get(key, True))
    return active


def _body(found: dict[str, Any]) -> dict[str, Any]:
    limit = found["global_concurrency_limit"]
    served = [schedules.found(schedule) for schedule in found["schedules"]]
    return {
        **{name: found[name] for name in _AS_SERVED},
        "labels": {name: found["labels"].get(name) for name in LABELS if name in found["labels"]},
        "work_pool": found["work_pool_name"],
        "work_queue": found["work_queue_name"],
        "concurrency_limit": _limit(found["id"], limit) if limit else None,
        "schedules": schedules.in_order(schedule for schedule, _ in served),
        **{schedules.active_key(schedule["slug"]): active for schedule, active in served},
    }


def _limit(deployment_id: str, limit: dict[str, Any]) -> int | str:
    """Return the deployment's own limit, or the name of a limit that it shares."""
    own: int = limit["limit"]
    shared: str = limit["name"]
    return own if shared == f"deployment:{deployment_id}" else shared
