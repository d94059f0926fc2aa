"""What each part of the platform may do with the API, route by route.

A route that is in no table is refused. Workers have the table of runs, because they start any code
in the pods of their work pool, and what they need to start it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.routing import compile_path

from prefect_platform.run_identity import rules
from prefect_platform.run_identity.identity import Part
from prefect_platform.run_identity.route_table import ALLOWED, OF_EVERYONE
from prefect_platform.run_identity.rules import Rule

_POOL = "/work_pools/{work_pool_name}"

WORKER: Mapping[str, Rule] = {
    **ALLOWED,
    # A worker says which Job belongs to a run, and proposes every state that Prefect allows.
    "PATCH /flow_runs/{id:uuid}": rules.own_flow_run,
    "POST /flow_runs/{id:uuid}/set_state": rules.state_of_a_run_of_the_pool,
    "GET /flow_run_states/": rules.states_of_own_flow_run,
    "POST /work_pools/{name}/get_scheduled_flow_runs": rules.own_work_pool,
    f"POST {_POOL}/queues/filter": rules.own_work_pool,
    f"POST {_POOL}/workers/heartbeat": rules.own_work_pool,
    f"WEBSOCKET {_POOL}/workers/connect": rules.own_work_pool,
    # After its start, it reports a pod only if that was not reported before.
    "POST /events/filter": rules.events_of_named_pods,
}

REAPER: Mapping[str, Rule] = {
    **OF_EVERYONE,
    "GET /work_pools/{name}": rules.anything,
    "GET /flow_runs/{id:uuid}": rules.anything,
    "POST /flow_runs/filter": rules.anything,
    "POST /task_runs/filter": rules.anything,
    "GET /flow_run_states/": rules.anything,
    "POST /flow_runs/{id:uuid}/set_state": rules.end_or_return_of_any_flow_run,
    "POST /events/count-by/{countable}": rules.anything,
    "POST /flow_runs/count": rules.anything,
    "GET /task_run_states/": rules.anything,
    "POST /v2/concurrency_limits/filter": rules.anything,
    "GET /concurrency_limits/{id:uuid}": rules.anything,
    "POST /v2/concurrency_limits/leases/{lease_id}/renew": rules.anything,
    # The server frees what the leases of the task run hold, and nothing else.
    "POST /concurrency_limits/decrement": rules.anything,
    "POST /events": rules.report_of_the_reaper,
}

# It declares everything that platform.yaml and prefect.yaml may name. It cannot see runs.
CONFIGURATION: Mapping[str, Rule] = {
    **OF_EVERYONE,
    **dict.fromkeys(
        (
            "POST /flows/",
            "POST /flows/filter",
            "POST /deployments/",
            "POST /deployments/filter",
            "DELETE /deployments/{id:uuid}",
            "POST /work_pools/",
            "POST /work_pools/filter",
            "PATCH /work_pools/{name}",
            "DELETE /work_pools/{name}",
            f"POST {_POOL}/queues",
            f"POST {_POOL}/queues/filter",
            f"GET {_POOL}/queues/{{name}}",
            f"PATCH {_POOL}/queues/{{name}}",
            f"DELETE {_POOL}/queues/{{name}}",
            "POST /v2/concurrency_limits/",
            "POST /v2/concurrency_limits/filter",
            "PATCH /v2/concurrency_limits/{id_or_name}",
            "DELETE /v2/concurrency_limits/{id_or_name}",
            "POST /variables/",
            "POST /variables/filter",
            "GET /variables/{id:uuid}",
            "GET /variables/name/{name:str}",
            "PATCH /variables/{id:uuid}",
            "DELETE /variables/{id:uuid}",
            "POST /block_types/",
            "GET /block_types/slug/{slug}",
            "PATCH /block_types/{id:uuid}",
            "POST /block_schemas/",
            "GET /block_schemas/checksum/{checksum}",
            "POST /block_documents/",
            "POST /block_documents/filter",
            "GET /block_types/slug/{slug}/block_documents/name/{block_document_name}",
            "PATCH /block_documents/{id:uuid}",
            "DELETE /block_documents/{id:uuid}",
            "POST /automations/",
            "POST /automations/filter",
            "PUT /automations/{id:uuid}",
            "DELETE /automations/{id:uuid}",
        ),
        rules.anything,
    ),
}

# `helm test` deploys a flow of its own and runs it once in each pool.
RELEASE_TEST: Mapping[str, Rule] = {
    **OF_EVERYONE,
    "GET /work_pools/{name}": rules.anything,
    "POST /flows/": rules.anything,
    "POST /deployments/": rules.deployment_of_the_release_test,
    "POST /deployments/{id:uuid}/create_flow_run": rules.run_of_the_release_test,
    "GET /flow_runs/{id:uuid}": rules.anything,
    "POST /flow_runs/{id:uuid}/set_state": rules.cancellation_of_the_release_test,
    "POST /logs/filter": rules.own_runs_in("logs"),
}

TABLES: Mapping[Part, Mapping[str, Rule]] = {
    Part.RUN: ALLOWED,
    Part.WORKER: WORKER,
    Part.REAPER: REAPER,
    Part.CONFIGURATION: CONFIGURATION,
    Part.RELEASE_TEST: RELEASE_TEST,
}


@dataclass(frozen=True)
class Matched:
    """The entry of a table that a request matches, and its path parameters."""

    route: str
    rule: Rule
    path: Mapping[str, Any]


def _compiled(table: Mapping[str, Rule]) -> Iterator[tuple[str, str, Rule, Any, Any]]:
    for route, rule in table.items():
        method, path = route.split(" ", 1)
        pattern, _, convertors = compile_path(path)
        yield method, route, rule, pattern, convertors


_COMPILED = {part: tuple(_compiled(table)) for part, table in TABLES.items()}


def match(part: Part, method: str, path: str) -> Matched | None:
    """Return the route of a part that a request is for, by Starlette's own patterns, or None."""
    for of_route, route, rule, pattern, convertors in _COMPILED[part]:
        if of_route == method and (found := pattern.match(path)):
            values = found.groupdict()
            return Matched(route, rule, {k: convertors[k].convert(v) for k, v in values.items()})
    return None
