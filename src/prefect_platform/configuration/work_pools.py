"""Work pools and their work queues."""

import json
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
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
from prefect_platform.configuration.core.source import (
    ConfigurationError,
    Location,
    Problem,
    Source,
)
from prefect_platform.run_identity.grants import is_of_grants, variable_of

_KUBERNETES = "kubernetes"
_FIXED = ("name", "type")
Runs = Annotated[int, Field(ge=0)]


class WorkQueue(Section):
    """A queue of flow runs in a work pool."""

    description: str = ""
    """Description of the queue, shown in the user interface."""
    concurrency_limit: Runs | None = None
    """Number of runs of this queue that may be submitted or running at the same time. null, the
    default, sets no limit beyond the pool's."""
    priority: Annotated[int, Field(ge=1)] | None = None
    """Priority of the queue. Queues with a lower number are served first, and 1 is the first. If it
    is not set, the value on the server is kept."""
    paused: bool | None = None
    """Whether the queue's runs wait. If it is not set, the value on the server is kept."""


class Grants(Section):
    """What the runs of a pool may use, if the server knows them by `auth.runIdentity`."""

    blocks: list[Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]] = Field(default_factory=list)
    """Blocks that runs may read, with their secrets, as TYPE/NAME. The block in which the pool's
    results are stored does not need a grant."""
    variables: list[str] = Field(default_factory=list)
    """Variables that runs may read."""
    writable_variables: list[str] = Field(default_factory=list)
    """Variables that runs may read, create, change and delete, such as the position of an
    incremental load. They are not declared in `variables`, where each `apply` would set them."""
    deployments: list[Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]] = Field(default_factory=list)
    """Deployments that runs may start as subflow runs, as FLOW/NAME."""
    concurrency_limits: list[str] = Field(default_factory=list)
    """Concurrency limits whose slots runs may take. A tag's limit has the name tag:TAG."""


class WorkPool(Section):
    """A work pool: where workers pick up flow runs, and how they start them."""

    type: str = _KUBERNETES
    """Type of the pool's workers, such as kubernetes (the default), docker, ecs or process."""
    description: str | None = None
    """Description of the pool, shown in the user interface."""
    concurrency_limit: Runs | None = None
    """Number of runs that may be submitted or running at the same time. null, the default, sets no
    limit. If job pods share nodes with the API, choose a number of runs that fits beside it."""
    paused: bool | None = None
    """Whether the pool's runs wait. If it is not set, the value on the server is kept."""
    base_job_template: str | dict[str, JsonValue] | None = None
    """The pool's base job template, or the path of a JSON file relative to this one. Pools that the
    chart prefect-worker serves get the template of the chart, and any other is refused. Pools of
    other types need one."""
    grants: Grants | None = None
    """What the pool's runs may use. By default it is nothing but the block of their results. It has
    no effect if the charts set `auth.runIdentity.enabled` to false."""
    queues: dict[Annotated[str, Field(pattern=r"^[^/%&<>]+$")], WorkQueue] = Field(
        default_factory=dict
    )
    """Additional work queues by name. Every pool has the queue `default`."""


def _refuse_names(source: Source, section: str, name: str, pool: WorkPool) -> None:
    """Raise ConfigurationError for values that the server accepts but does not honour."""
    if name.lower().startswith("prefect"):
        cause = f"{name}: Prefect reserves names that start with `prefect`"
        raise ConfigurationError([Problem(source.at(section, name), cause, "rename the pool")])
    seen: dict[int, str] = {}
    for queue_name, queue in pool.queues.items():
        if queue.priority is None:
            continue
        if first := seen.get(queue.priority):
            cause = f"the queues {first} and {queue_name} have the same priority, {queue.priority}"
            at = source.at(section, name, "queues", queue_name, "priority")
            raise ConfigurationError([Problem(at, cause, "give each queue its own priority")])
        seen[queue.priority] = queue_name


def _said(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body without settings that are left as they are on the server if not given."""
    left = ("paused", "priority")
    return {name: value for name, value in body.items() if value is not None or name not in left}


def _template(
    source: Source, section: str, name: str, pool: WorkPool, context: Context
) -> dict[str, Any]:
    at = source.at(section, name, "base_job_template")
    declared = _declared_template(source, at, pool)
    charted = context.base_job_template(name) if pool.type == _KUBERNETES else None
    if declared is not None:
        if charted and declared != charted:
            cause = f"the worker of the pool {name} uses the template of the chart prefect-worker"
            fix = "remove it, and change the template with the value jobs.template of that chart"
            raise ConfigurationError([Problem(at, cause, fix)])
        return declared
    if pool.type != _KUBERNETES:
        fix = f"create one: prefect work-pool get-default-base-job-template --type {pool.type}"
        cause = f"the pool {name} of type {pool.type} has no base_job_template"
        raise ConfigurationError([Problem(at, cause, fix)])
    if charted is None:
        fix = f"add {name} to the value `pools` of that chart"
        cause = f"the chart prefect-worker has no base job template for the pool {name}"
        raise ConfigurationError([Problem(at, cause, fix)])
    return charted


def _declared_template(source: Source, at: Location, pool: WorkPool) -> dict[str, Any] | None:
    """Return the template that the file declares; raises ConfigurationError if it is not JSON."""
    match pool.base_job_template:
        case str() as file:
            try:
                read: dict[str, Any] = json.loads((source.path.parent / file).read_text())
            except (OSError, ValueError) as error:
                problem = Problem(at, f"{file} cannot be read as JSON: {error}", "correct it")
                raise ConfigurationError([problem]) from error
            return read
        case template:
            return template


def _granted(source: Source, section: str, name: str, grants: Grants) -> Declared:
    """Return the variable in which the server finds the grants, and what has to exist for it."""
    tag = "tag:"
    limits = [
        Key(Kind.TAG_CONCURRENCY_LIMIT, each.removeprefix(tag))
        if each.startswith(tag)
        else Key(Kind.CONCURRENCY_LIMIT, each)
        for each in grants.concurrency_limits
    ]
    needs = frozenset(
        [
            *(Key(Kind.BLOCK, each) for each in grants.blocks),
            *(Key(Kind.VARIABLE, each) for each in grants.variables),
            *(Key(Kind.DEPLOYMENT, each) for each in grants.deployments),
            *limits,
        ]
    )
    # A server of an earlier version refuses keys that it does not know.
    body = {"value": grants.model_dump(mode="json", exclude_defaults=True), "tags": []}
    at = source.at(section, name, "grants")
    declared = source.data.get("variables")
    taken = {LOCK, *(declared if isinstance(declared, dict) else ())}
    for variable in grants.writable_variables:
        if variable in taken or is_of_grants(variable):
            cause = f"runs may not change the variable {variable}, which the configuration sets"
            fix = "move it to grants.variables, or give the variable of the runs another name"
            raise ConfigurationError([Problem(at, cause, fix)])
    return Declared(Key(Kind.VARIABLE, variable_of(name)), body, at, needs=needs)


class WorkPools(RestKind):
    """Work pools, each declared with its queues."""

    kind = Kind.WORK_POOL
    section = "work_pools"
    path = "/work_pools/"
    item = "/work_pools/{name}"

    def declare(self, source: Source, context: Context) -> list[Declared]:
        """Return the declared pools and their queues; raises ConfigurationError."""

        def one(name: str, raw: Any) -> list[Declared]:  # noqa: ANN401
            pool = WorkPool.model_validate(raw)
            body = pool.model_dump(mode="json", exclude={"queues", "grants"})
            _refuse_names(source, self.section, name, pool)
            template = _template(source, self.section, name, pool, context)
            WorkPoolCreate(name=name, base_job_template=template)
            body["base_job_template"] = template
            key = Key(self.kind, name)
            queues = [
                Declared(
                    Key(Kind.WORK_QUEUE, f"{name}/{queue_name}"),
                    _said(queue.model_dump(mode="json")),
                    source.at(self.section, name, "queues", queue_name),
                    needs=frozenset({key}),
                )
                for queue_name, queue in pool.queues.items()
            ]
            granted = (
                [] if pool.grants is None else [_granted(source, self.section, name, pool.grants)]
            )
            return [Declared(key, _said(body), source.at(self.section, name)), *queues, *granted]

        return each(source, self.section, one)

    def json_schema(self) -> dict[str, Any]:
        """Return the section's JSON schema."""
        return schema_by_name(WorkPool, "Work pools, with their queues, by name.")

    def export(
        self, inventory: Inventory, _secrets: Mapping[Key, Secrets], context: Context
    ) -> dict[str, Any]:
        """Return the pools with their queues, without the defaults of the chart and of Prefect."""
        return {
            found.key.name: _written(found, inventory, context) for found in inventory.of(self.kind)
        }

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

    def at(self, found: Found) -> dict[str, Any]:
        """Return the pool's name, by which the API addresses pools."""
        return {"name": found.key.name}

    def payload(self, declared: Declared, _inventory: Inventory) -> dict[str, Any]:
        """Return the pool in the form of the API."""
        return _json(declared)

    def change(self, declared: Declared, _inventory: Inventory) -> dict[str, Any]:
        """Return the pool without the fields that cannot be changed."""
        return {key: value for key, value in _json(declared).items() if key not in _FIXED}

    def update(
        self, client: SyncPrefectClient, inventory: Inventory, declared: Declared, found: Found
    ) -> None:
        """Set what is declared; raises ConfigurationError for another type, which is fixed."""
        if declared.body["type"] != found.body["type"]:
            raise ConfigurationError(
                [
                    Problem(
                        declared.at,
                        f"the pool {found.key.name} on the server is of type {found.body['type']}, "
                        "which Prefect cannot change",
                        f"rename it, or delete the pool: prefect work-pool delete {found.key.name}",
                    )
                ]
            )
        super().update(client, inventory, declared, found)


class WorkQueues(RestKind):
    """Work queues, named POOL/QUEUE."""

    kind = Kind.WORK_QUEUE
    path = "/work_pools/{work_pool_name}/queues"
    item = "/work_pools/{work_pool_name}/queues/{name}"

    def read(self, client: SyncPrefectClient, inventory: Inventory) -> list[Found]:
        """Return the queues of all pools."""
        pools = [each.key.name for each in inventory.of(Kind.WORK_POOL)]
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

    def at(self, found: Found) -> dict[str, Any]:
        """Return the names of the pool and the queue."""
        return _pool_and_queue(found.key)

    def payload(self, declared: Declared, _inventory: Inventory) -> dict[str, Any]:
        """Return the queue in the form of the API.

        Setting a priority changes those of other queues; the next round of `apply` reads them.
        """
        return _json(declared)

    def create(self, client: SyncPrefectClient, _inventory: Inventory, declared: Declared) -> UUID:
        """Create the queue, or update `default`, which the server creates with the pool."""
        names = _pool_and_queue(declared.key)
        pool = {"work_pool_name": names["work_pool_name"]}
        try:
            made = client.request("POST", self.path, path_params=pool, json=_json(declared))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
            client.request("PATCH", self.item, path_params=names, json=_json(declared))
            made = client.request("GET", self.item, path_params=names)
        return UUID(made.json()["id"])


def _pool_and_queue(key: Key) -> dict[str, str]:
    pool, _, name = key.name.partition("/")
    return {"work_pool_name": pool, "name": name}


def _json(declared: Declared) -> dict[str, Any]:
    """Return the body in the form of the API, with the last part of the resource's name."""
    body = {"name": declared.key.name.rpartition("/")[2], **declared.body}
    if "paused" in body:
        body["is_paused"] = body.pop("paused")
    return body


def _written(pool: Found, inventory: Inventory, context: Context) -> dict[str, Any]:
    written = without_defaults(WorkPool, pool.body, "paused")
    if context.base_job_template(pool.key.name) == pool.body["base_job_template"]:
        written.pop("base_job_template", None)
    stored = Key(Kind.VARIABLE, variable_of(pool.key.name))
    for found in inventory.of(Kind.VARIABLE):
        if found.key == stored:
            written["grants"] = without_defaults(Grants, found.body["value"])
    queues = {
        found.key.name.partition("/")[2]: without_defaults(WorkQueue, found.body, "paused")
        for found in inventory.of(Kind.WORK_QUEUE)
        if found.key.name.startswith(f"{pool.key.name}/")
    }
    if queues.keys() != {"default"} or queues["default"].keys() - {"priority"}:
        written["queues"] = queues
    return written
