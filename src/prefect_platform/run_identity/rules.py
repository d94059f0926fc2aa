"""The decisions of the route tables: what a part of the platform may do with a request.

A rule returns if the request is allowed. Otherwise it raises Forbidden, NotFound for an object that
does not exist, or Malformed. Everything in a request is input: a field that could reach beyond the
run's own objects is checked or refused.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect_platform.run_identity.ancestry import Ancestry
from prefect_platform.run_identity.declared_names import DeclaredNames
from prefect_platform.run_identity.events import refuse_foreign_event
from prefect_platform.run_identity.grants import Grants, is_of_grants
from prefect_platform.run_identity.identity import Forbidden, Malformed
from prefect_platform.run_identity.owners import Owner

# Values by which Prefect reads variables and renders templates in the API's process.
_HYDRATED = "__prefect_kind"
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_STOPPING = ("CANCELLING", "CANCELLED")
_MOST_TASK_RUNS = 1000  # that the lines of one request may name
_LONGEST_LEASE_SECONDS = 3600
_OF_A_POD = "prefect.kubernetes.pod."  # and its id in Kubernetes
# Fields of a new or changed run that decide where and how pods are started, or name other objects.
_NOT_OF_A_SUBFLOW = (
    "deployment_id",
    "idempotency_key",  # would return the run of another that was created with the same key
    "infrastructure_document_id",
    "job_variables",
    "work_pool_name",
    "work_queue_name",
)
_NOT_OF_A_CHANGE = ("infrastructure_pid", "job_variables")
_NOT_OF_A_START = (
    "enforce_parameter_schema",
    "idempotency_key",
    "infrastructure_document_id",
    "job_variables",
    "work_queue_name",
)
# Fields of a deployment that decide what its runs execute, and when.
_NOT_OF_A_RELEASE_TEST = (
    "concurrency_limit",
    "infrastructure_document_id",
    "job_variables",
    "path",
    "pull_steps",
    "schedules",
    "storage_document_id",
)
RELEASE_TEST_FLOW = "prefect-platform-test"
RELEASE_TEST_ENTRYPOINT = "prefect_platform.worker.probe_flow.platform_test"
# What the reaper reports, and about which kind of object.
REAPER_EVENTS = {
    "prefect-platform.reaper.pass": "prefect.work-pool.",
    "prefect-platform.reaper.silent-run": "prefect.flow-run.",
}


@dataclass(frozen=True)
class Call:
    """A request: who sends it, its parameters and JSON body, with what decides about them."""

    owner: Owner
    path: Mapping[str, Any]
    query: Mapping[str, str]
    body: Any
    grants: Grants
    ancestry: Ancestry
    names: DeclaredNames


Rule = Callable[[Call], Awaitable[None]]


async def anything(_call: Call) -> None:
    """Allow what reveals and changes nothing of other runs."""


async def own_flow_run(call: Call) -> None:
    """Allow to read the run itself and its subflow runs, by the id in the path."""
    await _refuse_foreign(call, [call.path["id"]])


async def own_flow_run_in_pod(call: Call) -> None:
    """Allow to change the run itself and the subflow runs that this pod executes."""
    await _refuse_foreign(call, [call.path["id"]], in_pod=True)


async def change_of_own_flow_run(call: Call) -> None:
    """Allow changes that do not decide which Job belongs to the run."""
    await own_flow_run_in_pod(call)
    # Null is a value, too: without its Job a run could not be cancelled.
    if given := [name for name in _NOT_OF_A_CHANGE if name in _object(call.body)]:
        raise Forbidden(f"a run may not set {', '.join(given)}")


async def state_of_own_flow_run(call: Call) -> None:
    """Allow states of the run and of its subflow runs; one that has a pod can only be cancelled.

    A run that has ended or is being cancelled does not run again: each start would also free a slot
    of the deployment's limit.
    """
    body = _object(call.body)
    state, run = _new_state(body), call.path["id"]
    kind = state.get("type")
    await _refuse_foreign(call, [run])
    if kind not in _STOPPING:
        await _refuse_foreign(call, [run], in_pod=True)
    before = await call.ancestry.state_type(run)
    if before in _ENDED and kind in ("RUNNING", "PENDING"):
        raise Forbidden("the run has ended")
    if before in _STOPPING and body.get("force") and kind not in (*_STOPPING, *_ENDED):
        raise Forbidden("the run is being cancelled")


async def new_subflow_run(call: Call) -> None:
    """Allow a run below an own task run, which runs in this pod and not in a work pool."""
    body = _object(call.body)
    _refuse_fields(body, _NOT_OF_A_SUBFLOW)
    _new_state(body)
    await _refuse_foreign_parent(call, body)


async def own_flow_runs_only(call: Call) -> None:
    """Allow a search that names own flow runs, or own task runs as their parents."""
    chosen = _filter(call.body, "flow_runs")
    parents = _any_of(chosen, "parent_task_run_id")
    runs: list[UUID | None] = [*_any_of(chosen, "id")]
    runs += [await call.ancestry.flow_run_of_task(each) for each in parents]
    await _refuse_foreign_search(call, runs)


def own_runs_in(section: str) -> Rule:
    """Return a rule that allows a search for objects of own flow runs in one section."""

    async def rule(call: Call) -> None:
        await _refuse_foreign_search(call, _any_of(_filter(call.body, section), "flow_run_id"))

    return rule


async def own_task_run(call: Call) -> None:
    """Allow task runs of own flow runs, and the one that this run is a subflow run of."""
    if not await call.owner.is_below(call.path["id"]):
        await _refuse_foreign(call, [await call.ancestry.flow_run_of_task(call.path["id"])])


async def object_of_own_run(call: Call) -> None:
    """Allow a new task run or artifact of a flow run in this pod."""
    body = _object(call.body)
    _new_state(body)
    await _refuse_foreign(call, [_uuid(body.get("flow_run_id"))], in_pod=True)
    await _refuse_foreign_tasks(call, [_uuid(body.get("task_run_id"))])


async def own_artifact(call: Call) -> None:
    """Allow to read an artifact of an own flow run."""
    await _refuse_foreign(call, [await call.ancestry.flow_run_of_artifact(call.path["id"])])


async def change_of_own_artifact(call: Call) -> None:
    """Allow to change an artifact of a flow run in this pod."""
    await _refuse_foreign(
        call, [await call.ancestry.flow_run_of_artifact(call.path["id"])], in_pod=True
    )


async def own_logs(call: Call) -> None:
    """Allow log lines of the flow runs in this pod."""
    lines = [_object(each) for each in _list(call.body)]
    await _refuse_foreign(call, {_uuid(each.get("flow_run_id")) for each in lines}, in_pod=True)
    await _refuse_foreign_tasks(call, {_uuid(each.get("task_run_id")) for each in lines})


async def own_events(call: Call) -> None:
    """Allow events that speak of nothing but own runs."""
    for event in _list(call.body):
        await refuse_foreign_event(event, call.owner, call.ancestry)


async def granted_block(call: Call) -> None:
    """Allow a block document that platform.yaml grants, by type and name."""
    _refuse_ungranted(
        call.grants.blocks, "blocks", f"{call.path['slug']}/{call.path['block_document_name']}"
    )


async def granted_block_by_id(call: Call) -> None:
    """Allow a block document that platform.yaml grants, by id."""
    _refuse_ungranted(call.grants.blocks, "blocks", await call.names.block(call.path["id"]))


async def granted_variable(call: Call) -> None:
    """Allow to read a variable that platform.yaml grants."""
    granted = call.grants.variables | call.grants.writable_variables
    _refuse_ungranted(granted, "variables", call.path["name"])


async def new_writable_variable(call: Call) -> None:
    """Allow to create a variable that platform.yaml lets runs change."""
    _refuse_unwritable(call, str(_object(call.body).get("name")))


async def change_of_writable_variable(call: Call) -> None:
    """Allow to change or delete a variable that platform.yaml lets runs change, by its name."""
    name = call.path["name"]
    if call.body is not None and _object(call.body).get("name", name) != name:
        raise Forbidden("a run may not rename a variable")
    _refuse_unwritable(call, name)


async def granted_deployment_by_name(call: Call) -> None:
    """Allow a deployment that platform.yaml grants, by the names of flow and deployment."""
    name = f"{call.path['flow_name']}/{call.path['deployment_name']}"
    _refuse_ungranted(call.grants.deployments, "deployments", name)


async def own_or_granted_deployment(call: Call) -> None:
    """Allow the run's own deployment, and those that platform.yaml grants."""
    if not await call.owner.has_deployment(call.path["id"]):
        name = await call.names.deployment(call.path["id"])
        _refuse_ungranted(call.grants.deployments, "deployments", name)


async def start_of_granted_deployment(call: Call) -> None:
    """Allow a run of a granted deployment, as a subflow run and with the deployment's own Job."""
    name = await call.names.deployment(call.path["id"])
    _refuse_ungranted(call.grants.deployments, "deployments", name)
    body = _object(call.body)
    _refuse_fields(body, _NOT_OF_A_START)
    if _contains_key(body, _HYDRATED):
        raise Forbidden(f"a run may not use {_HYDRATED} in parameters")
    _new_state(body)
    await _refuse_foreign_parent(call, body)


async def granted_limits(call: Call) -> None:
    """Allow slots of granted limits, and names without a limit, such as most tags of tasks."""
    body = _object(call.body)
    _refuse_fields(body, ("create_if_missing",))
    duration = body.get("lease_duration", 0)
    if not isinstance(duration, int | float) or duration > _LONGEST_LEASE_SECONDS:
        raise Forbidden(f"a lease may take {_LONGEST_LEASE_SECONDS} s at most")
    if body.get("holder") is not None:
        await _refuse_foreign_holder(call, _object(body["holder"]))
    names = frozenset(str(each) for each in _list(body.get("names")))
    for name in await call.names.existing_limits(names - call.grants.concurrency_limits):
        _refuse_ungranted(call.grants.concurrency_limits, "concurrency_limits", name)


async def granted_rates(call: Call) -> None:
    """Allow slots without a lease of granted limits that free them by time alone."""
    if _object(call.body).get("mode") != "rate_limit":
        raise Forbidden("a run may take slots only with a lease, so that they are freed")
    await granted_limits(call)


async def own_work_pool(call: Call) -> None:
    """Allow the own work pool, and its work queues and workers."""
    if (call.path.get("work_pool_name") or call.path["name"]) != call.owner.pool:
        raise Forbidden("only the own work pool may be used")


async def own_work_queue(call: Call) -> None:
    """Allow the work queue of own flow runs."""
    if not await call.owner.has_work_queue(call.path["id"]):
        raise Forbidden("only the own work queue may be read")


async def states_of_own_flow_run(call: Call) -> None:
    """Allow to read the states of an own flow run, which the query names."""
    await _refuse_foreign(call, [_uuid(call.query.get("flow_run_id"))])


async def state_of_a_run_of_the_pool(call: Call) -> None:
    """Allow every state that Prefect's own rules allow, and to end a run against them."""
    await own_flow_run(call)
    body = _object(call.body)
    kind = _new_state(body).get("type")
    if body.get("force") and kind not in (*_STOPPING, *_ENDED):
        raise Forbidden("a worker may use force only to end a flow run")


async def deployment_of_the_release_test(call: Call) -> None:
    """Allow the deployment of the flow of `helm test`, as that declares it."""
    body = _object(call.body)
    await _refuse_other_flow(call, _uuid(body.get("flow_id")))
    if body.get("entrypoint") != RELEASE_TEST_ENTRYPOINT:
        raise Forbidden("the release test deploys only its own flow")
    _refuse_fields(body, _NOT_OF_A_RELEASE_TEST)


async def run_of_the_release_test(call: Call) -> None:
    """Allow a run of the flow of `helm test`, as its deployment declares it."""
    name = await call.names.deployment(call.path["id"])
    if not name.startswith(f"{RELEASE_TEST_FLOW}/"):
        raise Forbidden("the release test runs only its own flow")
    _refuse_fields(_object(call.body), _NOT_OF_A_START)


async def cancellation_of_the_release_test(call: Call) -> None:
    """Allow to cancel a run of the flow of `helm test`, without force."""
    await _refuse_other_flow(call, (await call.ancestry.facts(call.path["id"])).flow)
    _refuse_other_states(call, "CANCELLING")


async def report_of_the_reaper(call: Call) -> None:
    """Allow reports about what the reaper did in a work pool, and about runs that it names."""
    for event in map(_object, _list(call.body)):
        about = str(_object(event.get("resource")).get("prefect.resource.id"))
        kind = REAPER_EVENTS.get(str(event.get("event")))
        if kind is None or not about.startswith(kind):
            raise Forbidden("the reaper sends only its own reports")


async def events_of_named_pods(call: Call) -> None:
    """Allow a search for events about pods that it names. Their ids are random."""
    chosen = _object(_object(call.body).get("filter") or {})
    ids = _list(_object(chosen.get("resource") or {}).get("id") or [])
    if not ids or not all(str(each).startswith(_OF_A_POD) for each in ids):
        raise Forbidden("a worker may search for events only by the ids of pods")


async def end_or_return_of_any_flow_run(call: Call) -> None:
    """Allow to end a flow run, or to schedule one again that is pending, without force.

    The reaper does both. A run that has begun must not be executed a second time.
    """
    _refuse_other_states(call, "CRASHED", "CANCELLED", "SCHEDULED")
    before = await call.ancestry.state_type(call.path["id"])
    if _new_state(_object(call.body)).get("type") == "SCHEDULED" and before != "PENDING":
        raise Forbidden("only a flow run that is pending may be scheduled again")


def _refuse_other_states(call: Call, *types: str) -> None:
    body = _object(call.body)
    if body.get("force") or _new_state(body).get("type") not in types:
        raise Forbidden(f"a flow run may only be set to {' or '.join(types)}, without force")


async def _refuse_other_flow(call: Call, flow: UUID | None) -> None:
    if flow is None or await call.names.flow(flow) != RELEASE_TEST_FLOW:
        raise Forbidden("the release test uses only its own flow")


async def _refuse_foreign_parent(call: Call, body: Mapping[str, Any]) -> None:
    parent = _uuid(body.get("parent_task_run_id"))
    if parent is None:
        raise Forbidden(
            "a run may start other runs only as its subflow runs: call run_deployment with "
            "as_subflow=True, inside the flow"
        )
    await _refuse_foreign(call, [await call.ancestry.flow_run_of_task(parent)], in_pod=True)


async def _refuse_foreign_holder(call: Call, holder: Mapping[str, Any]) -> None:
    if holder.get("type") == "task_run":
        await _refuse_foreign_tasks(call, [_uuid(holder.get("id"))])
    elif holder.get("type") == "flow_run":
        await _refuse_foreign(call, [_uuid(holder.get("id"))])
    else:
        raise Forbidden("a run may take slots only for itself and its task runs")


async def _refuse_foreign_tasks(call: Call, task_runs: Iterable[UUID | None]) -> None:
    """Refuse stored task runs of others; the server stores a new one later than its logs."""
    named = {each for each in task_runs if each is not None}
    if len(named) > _MOST_TASK_RUNS:
        raise Malformed(f"a request may name {_MOST_TASK_RUNS} task runs at most")
    if named:
        await _refuse_foreign(call, await call.ancestry.flow_runs_of_tasks(named), in_pod=True)


async def _refuse_foreign_search(call: Call, flow_runs: Sequence[UUID | None]) -> None:
    if not flow_runs:
        raise Forbidden("a run may search only by the ids of its own runs")
    await _refuse_foreign(call, flow_runs)


async def _refuse_foreign(
    call: Call, flow_runs: Iterable[UUID | None], *, in_pod: bool = False
) -> None:
    """Refuse flow runs that are not own ones, with `in_pod` also own ones that have other pods."""
    for each in flow_runs:
        if not await call.owner.owns(each, in_pod=in_pod):
            raise Forbidden("this belongs to another flow run")


def _new_state(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state that a request sets, an empty one if it sets none.

    A deferred one would go to whichever process waits for tasks of that key, and use the results
    that all task runs share by key.
    """
    state = _object(body.get("state") or {})
    details = _object(state.get("state_details") or {})
    if details.get("deferred") or details.get("cache_key"):
        raise Forbidden("a run may not hand tasks to other processes")
    return state


def _contains_key(value: object, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_contains_key(each, key) for each in value.values())
    return isinstance(value, list) and any(_contains_key(each, key) for each in value)


def _refuse_ungranted(granted: frozenset[str], kind: str, name: str) -> None:
    if name not in granted:
        raise Forbidden(
            f"{name} is not granted to the runs of this work pool. Next step: add it to "
            f"grants.{kind} of the work pool in platform.yaml"
        )


def _refuse_unwritable(call: Call, name: str) -> None:
    if is_of_grants(name):
        raise Forbidden(f"only the configuration changes {name}")
    _refuse_ungranted(call.grants.writable_variables, "writable_variables", name)


def _refuse_fields(body: Mapping[str, Any], names: Iterable[str]) -> None:
    if given := [name for name in names if body.get(name) not in (None, {}, [])]:
        raise Forbidden(f"a run may not set {', '.join(given)}")


def _filter(body: object, section: str) -> Mapping[str, Any]:
    """Return a section of a search whose conditions all apply."""
    chosen = _object(_object(body).get(section) or {})
    if chosen.get("operator") not in (None, "and_"):
        raise Forbidden("a run may search only with conditions that all apply")
    return chosen


def _any_of(chosen: Mapping[str, Any], field: str) -> list[UUID]:
    """Return the ids that one field of a search may have, of which it has to have one."""
    if chosen.get(field) is None:
        return []
    condition = _object(chosen[field])
    others = [key for key, value in condition.items() if key != "any_" and value is not None]
    if others not in ([], ["operator"]) or condition.get("operator") not in (None, "and_"):
        raise Forbidden("a run may search only by the ids of its own runs")
    ids = [_uuid(each) for each in _list(condition.get("any_"))]
    return [each for each in ids if each is not None]


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("the body does not have the form that this route expects")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed("the body does not have the form that this route expects")
    return value


def _uuid(value: object) -> UUID | None:
    try:
        return None if value is None else UUID(str(value))
    except ValueError:
        raise Malformed("the body names an object by something that is not an id") from None
