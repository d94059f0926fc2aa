"""Work pools and their queues."""

import json
from typing import Annotated, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.orchestration.routes import ServerRoutes
from prefect.client.schemas.actions import WorkPoolCreate
from pydantic import Field, JsonValue

from prefect_platform.configuration.core.context import Context
from prefect_platform.configuration.core.prefect_api import delete, pages
from prefect_platform.configuration.core.resource import Declared, Found, Inventory, Key, Kind
from prefect_platform.configuration.core.section import Section, each
from prefect_platform.configuration.core.source import ConfigurationError, Problem, Source

_KUBERNETES = "kubernetes"
Runs = Annotated[int, Field(ge=0)]


class WorkQueue(Section):
    """A line of runs within a pool."""

    description: str = ""
    """What it is for."""
    concurrency_limit: Runs | None = None
    """Runs that may be under way at once; null: as many as the pool allows."""
    priority: Annotated[int, Field(ge=1)] | None = None
    """1 is served first. Not given: left as it is on the server."""
    paused: bool | None = None
    """Whether its runs wait. Not given: left as it is on the server."""


class WorkPool(Section):
    """Where runs come from, and what becomes of them."""

    type: str = _KUBERNETES
    """The type of its workers: kubernetes, docker, ecs, process."""
    description: str | None = None
    """What it is for."""
    concurrency_limit: Runs | None = None
    """Runs that may be submitted or running at once; null: no limit. Where job pods share nodes
    with the API, choose as many as fit beside it."""
    paused: bool | None = None
    """Whether its runs wait. Not given: left as it is on the server."""
    base_job_template: str | dict[str, JsonValue] | None = None
    """A JSON file beside this one, or the template itself. Not given: that of the chart
    prefect-worker, for a pool of type kubernetes."""
    queues: dict[Annotated[str, Field(pattern=r"^[^/%&<>]+$")], WorkQueue] = Field(
        default_factory=dict
    )
    """Further queues by name; `default` is always there."""


def declare(source: Source, section: str, context: Context) -> list[Declared]:
    """Return the pools that `section` asks for, and their queues; raises ConfigurationError."""

    def one(name: str, raw: Any) -> list[Declared]:  # noqa: ANN401
        pool = WorkPool.model_validate(raw)
        body = pool.model_dump(mode="json", exclude={"queues"})
        _refuse_names(source, section, name, pool)
        template = _template(source, section, name, pool, context)
        WorkPoolCreate(name=name, base_job_template=template)
        body["base_job_template"] = template
        key = Key(Kind.WORK_POOL, name)
        queues = [
            Declared(
                Key(Kind.WORK_QUEUE, f"{name}/{queue_name}"),
                _said(queue.model_dump(mode="json")),
                source.at(section, name, "queues", queue_name),
                needs=frozenset({key}),
            )
            for queue_name, queue in pool.queues.items()
        ]
        return [Declared(key, _said(body), source.at(section, name)), *queues]

    return each(source, section, one)


def _refuse_names(source: Source, section: str, name: str, pool: WorkPool) -> None:
    """Raise ConfigurationError for what the server takes and then does not do."""
    if name.lower().startswith("prefect"):
        cause = f"{name}: Prefect keeps names with `prefect` in front to itself"
        raise ConfigurationError([Problem(source.at(section, name), cause, "rename the pool")])
    seen: dict[int, str] = {}
    for queue_name, queue in pool.queues.items():
        if queue.priority is None:
            continue
        if first := seen.get(queue.priority):
            cause = f"the queues {first} and {queue_name} have one priority, {queue.priority}"
            at = source.at(section, name, "queues", queue_name, "priority")
            raise ConfigurationError([Problem(at, cause, "give each queue its own")])
        seen[queue.priority] = queue_name


def _said(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body without what is left as it is on the server when nobody says it."""
    left = ("paused", "priority")
    return {name: value for name, value in body.items() if value is not None or name not in left}


def _template(
    source: Source, section: str, name: str, pool: WorkPool, context: Context
) -> dict[str, Any]:
    at = source.at(section, name, "base_job_template")
    match pool.base_job_template:
        case dict() as template:
            return template
        case str() as file:
            try:
                read: dict[str, Any] = json.loads((source.path.parent / file).read_text())
            except (OSError, ValueError) as error:
                problem = Problem(at, f"{file} cannot be read as JSON: {error}", "correct it")
                raise ConfigurationError([problem]) from error
            return read
    if pool.type != _KUBERNETES:
        fix = f"write one: prefect work-pool get-default-base-job-template --type {pool.type}"
        cause = f"the pool {name} of type {pool.type} has no base_job_template"
        raise ConfigurationError([Problem(at, cause, fix)])
    charted = context.base_job_template(name)
    if charted is None:
        fix = f"add {name} to the value `pools` of that chart"
        cause = f"the chart prefect-worker has no base job template for the pool {name}"
        raise ConfigurationError([Problem(at, cause, fix)])
    return charted


class WorkPools:
    """The verbs of work pools."""

    kind = Kind.WORK_POOL

    def read(self, client: SyncPrefectClient, _inventory: Inventory) -> list[Found]:
        """Return all pools."""
        return [
            Found(
                Key(self.kind, found["name"]),
                UUID(found["id"]),
                {
                    "type": found["type"],
                    "description": found["description"],
                    "concurrency_limit": found["concurrency_limit"],
                    "base_job_template": found["base_job_template"],
                    "paused": found["is_paused"],
                },
            )
            for found in pages(client, "/work_pools/filter")
        ]

    def create(self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared) -> UUID:
        """Create the pool; the server adds its queue `default`."""
        created = client.request("POST", "/work_pools/", json=_json(declared))
        return UUID(created.json()["id"])

    def update(
        self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Set what is declared. Prefect cannot change the type of a pool: PlatformError."""
        if declared.body["type"] != found.body["type"]:
            raise ConfigurationError(
                [
                    Problem(
                        declared.at,
                        f"the pool {found.key.name} on the server is of type {found.body['type']}, "
                        "which Prefect cannot change",
                        f"name it differently, or: prefect work-pool delete {found.key.name}",
                    )
                ]
            )
        body = _json(declared)
        del body["name"], body["type"]
        client.request(
            "PATCH", "/work_pools/{name}", path_params={"name": found.key.name}, json=body
        )

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete the pool with its queues."""
        delete(client, "/work_pools/{name}", name=found.key.name)


class WorkQueues:
    """The verbs of work queues."""

    kind = Kind.WORK_QUEUE

    def read(self, client: SyncPrefectClient, inventory: Inventory) -> list[Found]:
        """Return the queues of all pools."""
        pools = [each.key.name for each in inventory.all() if each.key.kind is Kind.WORK_POOL]
        return [
            Found(
                Key(self.kind, f"{pool}/{found['name']}"),
                UUID(found["id"]),
                {
                    "description": found["description"] or "",
                    "concurrency_limit": found["concurrency_limit"],
                    "priority": found["priority"],
                    "paused": found["is_paused"],
                },
            )
            for pool in pools
            for found in pages(
                client, "/work_pools/{work_pool_name}/queues/filter", work_pool_name=pool
            )
        ]

    def create(self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared) -> UUID:
        """Create the queue; `default`, which the server made with the pool, becomes as declared."""
        pool, _, name = declared.key.name.partition("/")
        path = {"work_pool_name": pool}
        try:
            created = client.request(
                "POST",
                "/work_pools/{work_pool_name}/queues",
                path_params=path,
                json=_json(declared),
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
            path["name"] = name
            route: ServerRoutes = "/work_pools/{work_pool_name}/queues/{name}"
            client.request("PATCH", route, path_params=path, json=_json(declared))
            created = client.request("GET", route, path_params=path)
        return UUID(created.json()["id"])

    def update(
        self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Set what is declared. A priority moves other queues: the next reading sees them."""
        pool, _, name = found.key.name.partition("/")
        client.request(
            "PATCH",
            "/work_pools/{work_pool_name}/queues/{name}",
            path_params={"work_pool_name": pool, "name": name},
            json=_json(declared),
        )

    def delete(self, client: SyncPrefectClient, found: Found) -> None:
        """Delete the queue; runs in it wait for nobody."""
        pool, _, name = found.key.name.partition("/")
        delete(client, "/work_pools/{work_pool_name}/queues/{name}", work_pool_name=pool, name=name)


def _json(declared: Declared) -> dict[str, Any]:
    """Return the body as the API takes it: with the last part of the name."""
    body = {"name": declared.key.name.rpartition("/")[2], **declared.body}
    if "paused" in body:
        body["is_paused"] = body.pop("paused")
    return body
