"""Which events a run may send and receive: those that speak of its own runs.

Automations act on events, and the server stores the task runs that events describe, so an event
about another run would change or end it.
"""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect_platform.run_identity.ancestry import Ancestry, FlowRunFacts
from prefect_platform.run_identity.identity import Forbidden, NotFound, Refused

_ID = "prefect.resource.id"
_PREFECTS = "prefect."
# What Prefect's client reports about a run. The server itself reports changes of its state.
_OF_A_FLOW_RUN = frozenset({"prefect.flow-run.heartbeat", "prefect.flow-run.pull-step.executed"})
_OF_A_TASK_RUN = re.compile(r"prefect\.task-run\.[A-Za-z]+")
# What a run uses or creates: these events change nothing on the server.
_OF_USE = re.compile(r"prefect\.(artifact|asset|block|concurrency-limit)\.[a-z0-9.-]+")
_USED = ("prefect.artifact.", "prefect.block-document.", "prefect.concurrency-limit.")
# Resources that describe, and that no automation finds a run by.
_DESCRIPTIVE = ("prefect.tag.", "prefect.block-type.")
_OVERRIDES = ("id", "flow_run_id", "state", "state_id")


async def refuse_foreign_event(event: object, root: UUID, ancestry: Ancestry) -> None:
    """Raise Forbidden unless an event to send speaks only of `root` and its subflow runs."""
    if not isinstance(event, dict):
        raise Forbidden("the message is not an event")
    name, resource = str(event.get("event")), _resource(event.get("resource"))
    related = [_resource(each) for each in _related(event)]
    runs = [run for each in (resource, *related) if (run := _id("flow-run", each)) is not None]
    if not await ancestry.all_descend(runs, root):
        raise Forbidden(f"the event {name} is about another flow run")
    facts = [await ancestry.facts(run) for run in {root, *runs}]
    for each in related:
        _refuse_foreign_resource(name, each, facts)
    if _OF_A_TASK_RUN.fullmatch(name):
        await _refuse_foreign_task_run(event, resource, runs, ancestry)
    elif name in _OF_A_FLOW_RUN:
        if _id("flow-run", resource) is None:
            raise Forbidden(f"the event {name} is about no flow run")
    elif _OF_USE.fullmatch(name):
        if resource.startswith(_PREFECTS) and not resource.startswith(_USED):
            raise Forbidden(f"the event {name} is about {resource}")
    elif name.startswith(_PREFECTS):
        raise Forbidden(f"only the platform sends the event {name}")
    elif resource.startswith(_PREFECTS):
        _refuse_foreign_resource(name, resource, facts)


async def is_own_event(event: Mapping[str, Any], root: UUID, ancestry: Ancestry) -> bool:
    """Return whether an event to receive is about `root` or one of its subflow runs."""
    for each in (event.get("resource"), *_related(event)):
        try:
            run = _id("flow-run", _resource(each))
            if run is not None and await ancestry.descends(run, root):
                return True
        except Refused:
            continue
    return False


async def _refuse_foreign_task_run(
    event: Mapping[str, Any], resource: str, runs: list[UUID], ancestry: Ancestry
) -> None:
    task_run = _id("task-run", resource)
    if task_run is None or len(runs) != 1:
        raise Forbidden("the event is not about one task run of one flow run")
    payload = event.get("payload")
    described = payload.get("task_run") if isinstance(payload, dict) else None
    if isinstance(described, dict) and (given := [k for k in _OVERRIDES if k in described]):
        raise Forbidden(f"the event describes a task run with {', '.join(given)}")
    try:
        stored = await ancestry.flow_run_of_task(task_run)
    except NotFound:
        return
    if stored != runs[0]:
        raise Forbidden("the event is about a task run of another flow run")


def _refuse_foreign_resource(name: str, resource: str, facts: list[FlowRunFacts]) -> None:
    if not resource.startswith(_PREFECTS) or resource.startswith(_DESCRIPTIVE):
        return
    own = {
        "flow-run": None,  # checked before
        "flow": {each.flow for each in facts},
        "deployment": {each.deployment for each in facts},
        "work-queue": {each.work_queue for each in facts},
        "work-pool": {each.work_pool for each in facts},
    }
    kind = resource.removeprefix(_PREFECTS).partition(".")[0]
    if kind in own and (own[kind] is None or _id(kind, resource) in (own[kind] or ())):
        return
    raise Forbidden(f"the event {name} names {resource}, which is not the run's own")


def _related(event: Mapping[str, Any]) -> list[object]:
    related = event.get("related") or []
    if not isinstance(related, list):
        raise Forbidden("the related resources of the event are not a list")
    return related


def _resource(value: object) -> str:
    identifier = value.get(_ID) if isinstance(value, dict) else None
    if not isinstance(identifier, str):
        raise Forbidden("the event has a resource without an id")
    return identifier


def _id(kind: str, resource: str) -> UUID | None:
    """Return the id in the name of a resource of this kind, or None if it is of another kind."""
    prefix = f"{_PREFECTS}{kind}."
    if not resource.startswith(prefix):
        return None
    try:
        return UUID(resource.removeprefix(prefix))
    except ValueError:
        raise Forbidden(f"the event names {resource}, which has no valid id") from None
