"""Which events a run may send and receive: those that speak of its own runs.

Automations act on events, and the server stores the task runs that events describe, so an event
about another run would change or end it. The server stores the events of all runs together, so one
that it cannot store would take others with it.
"""

import json
import math
import re
from collections.abc import Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.server.events.schemas.events import Event
from prefect.server.services.task_run_recorder import db_recordable_task_run_from_event
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from prefect_platform.run_identity.ancestry import Ancestry
from prefect_platform.run_identity.identity import Forbidden, NotFound, Refused
from prefect_platform.run_identity.owners import Owner

_ID, _ROLE = "prefect.resource.id", "prefect.resource.role"
_PREFECTS, _PLATFORMS = "prefect.", "prefect-platform."
# What Prefect's client reports about a run. The server itself reports changes of its state.
_OF_A_FLOW_RUN = frozenset({"prefect.flow-run.heartbeat", "prefect.flow-run.pull-step.executed"})
_OF_A_TASK_RUN = re.compile(r"prefect\.task-run\..+", re.DOTALL)  # and the name of its state
# What a worker reports about itself and about the pods of its work pool.
_OF_A_WORKER = re.compile(r"prefect\.(worker|kubernetes\.pod)\.[a-z0-9.-]+")
_WORKERS = ("prefect.worker.", "prefect.kubernetes.pod.")
# What a run uses or creates: these events change nothing on the server.
_OF_USE = re.compile(r"prefect\.(artifact|asset|block|concurrency-limit)\.[a-z0-9.-]+")
_USED = ("prefect.artifact.", "prefect.block-document.", "prefect.concurrency-limit.")
# Related resources that describe an event, and that are no objects of another run.
_DESCRIPTIVE = ("prefect.tag.", "prefect.block-type.", "prefect.concurrency-limit.")
_OBJECTS = ("flow", "deployment", "work-queue", "work-pool")
_OVERRIDES = ("id", "flow_run_id", "state", "state_id")
_LONGEST_NAME = 1024  # characters; PostgreSQL refuses an index entry of about 2.7 KB
_NUL = "\\u0000"  # as JSON; PostgreSQL stores no text with it
_LARGEST = 2**31 - 1  # of an integer column
_STORED_WITHIN_SECONDS, _TRIED_EVERY_SECONDS = 1.0, 0.05


async def refuse_foreign_event(event: object, owner: Owner, ancestry: Ancestry) -> None:
    """Raise Forbidden unless an event to send speaks only of own flow runs in own pods."""
    if not isinstance(event, dict):
        raise Forbidden("the message is not an event")
    name, resource = str(event.get("event")), _resource(event.get("resource"))
    related = [_resource(each) for each in _related(event)]
    if _NUL in json.dumps(event) or max(map(len, (name, resource, *related))) > _LONGEST_NAME:
        raise Forbidden("the event has a name or a text that cannot be stored")
    runs = [run for each in (resource, *related) if (run := _id("flow-run", each)) is not None]
    for run in runs:
        if not await owner.owns(run, in_pod=True):
            raise Forbidden(f"the event {name} is about another flow run")
    for named in related:
        await _refuse_foreign_resource(name, named, runs, owner, ancestry)
    reports = owner.root is None and _OF_A_WORKER.fullmatch(name) and resource.startswith(_WORKERS)
    if not reports:
        await _refuse_kind(event, runs, owner, ancestry)
    _refuse_unreadable(event, is_task_run=name.startswith("prefect.task-run."))


async def _refuse_kind(
    event: Mapping[str, Any], runs: list[UUID], owner: Owner, ancestry: Ancestry
) -> None:
    """Raise Forbidden for names of Prefect's own events that do not fit what they are about."""
    name, resource = str(event.get("event")), _resource(event.get("resource"))
    if _OF_A_TASK_RUN.fullmatch(name):
        await _refuse_foreign_task_run(event, resource, runs, ancestry)
    elif name in _OF_A_FLOW_RUN:
        if _id("flow-run", resource) is None:
            raise Forbidden(f"the event {name} is about no flow run")
    elif _OF_USE.fullmatch(name):
        if resource.startswith(_PREFECTS) and not resource.startswith(_USED):
            raise Forbidden(f"the event {name} is about {resource}")
        await _refuse_foreign_artifact(resource, owner, ancestry)
    elif name.startswith((_PREFECTS, _PLATFORMS)):
        raise Forbidden(f"only the platform sends the event {name}")
    elif resource.startswith(_PREFECTS):
        await _refuse_foreign_resource(name, resource, runs, owner, ancestry)


async def is_own_event(event: Mapping[str, Any], owner: Owner) -> bool:
    """Return whether an event to receive is about an own flow run.

    The server sends an event about a new run right before it stores the run, which is waited for.
    An older event about a run that is not stored is about one that was deleted.
    """
    age = (datetime.now(UTC) - datetime.fromisoformat(event["occurred"])).total_seconds()
    tries = AsyncRetrying(
        retry=retry_if_exception_type(NotFound),
        stop=stop_after_delay(
            _STORED_WITHIN_SECONDS - max(age, 0)
        ),  # the sender's clock may differ
        wait=wait_fixed(_TRIED_EVERY_SECONDS),
        retry_error_callback=lambda _: False,
    )
    own: bool = await tries(_names_own_run, event, owner)
    return own


async def _names_own_run(event: Mapping[str, Any], owner: Owner) -> bool:
    """Return whether an event names an own flow run; NotFound if a named one is not stored."""
    missing: NotFound | None = None
    for each in (event.get("resource"), *_related(event)):
        try:
            run = _id("flow-run", _resource(each))
            if run is not None and await owner.owns(run):
                return True
        except NotFound as error:
            missing = error
        except Refused:
            continue
    if missing is not None:
        raise missing
    return False


async def _refuse_foreign_task_run(
    event: Mapping[str, Any], resource: str, runs: list[UUID], ancestry: Ancestry
) -> None:
    task_run = _id("task-run", resource)
    roles = [_resource(each) for each in _related(event) if _role(each) == "flow-run"]
    if task_run is None or len(runs) != 1 or [_id("flow-run", each) for each in roles] != runs:
        raise Forbidden("the event is not about one task run of one flow run")
    payload = event.get("payload")
    if not isinstance(payload, dict):
        raise Forbidden("the event describes no task run")
    described, state = payload.get("task_run"), payload.get("validated_state")
    if not isinstance(described, dict) or not isinstance(state, dict):
        raise Forbidden("the event describes no task run")
    given = [key for key in _OVERRIDES if key in described]
    if given or "id" in state or "timestamp" in state:
        raise Forbidden("the event describes a task run that is not the one it is about")
    if any(not math.isfinite(each) or abs(each) > _LARGEST for each in _numbers(described)):
        raise Forbidden("the event has a number that cannot be stored")
    try:
        stored = await ancestry.flow_run_of_task(task_run)
    except NotFound:
        return
    if stored != runs[0]:
        raise Forbidden("the event is about a task run of another flow run")


async def _refuse_foreign_resource(
    name: str, resource: str, runs: list[UUID], owner: Owner, ancestry: Ancestry
) -> None:
    if not resource.startswith(_PREFECTS) or resource.startswith(_DESCRIPTIVE):
        return
    if owner.root is None and resource.startswith(_WORKERS):
        return
    kind = resource.removeprefix(_PREFECTS).partition(".")[0]
    if kind == "flow-run":
        return  # checked before
    if kind == "task-run" and (task_run := _id(kind, resource)) is not None:
        # The run of a task that started just now is stored later.
        if await _owned_if_stored(ancestry.flow_run_of_task(task_run), owner):
            return
    elif kind in _OBJECTS:
        identifier = _id(kind, resource)
        if identifier is not None and await owner.has(kind, identifier, runs):
            return
    raise Forbidden(f"the event {name} names {resource}, which is not the run's own")


async def _refuse_foreign_artifact(resource: str, owner: Owner, ancestry: Ancestry) -> None:
    artifact = _id("artifact", resource)
    if artifact is not None and not await _owned_if_stored(
        ancestry.flow_run_of_artifact(artifact), owner
    ):
        raise Forbidden("the event is about an artifact of another flow run")


async def _owned_if_stored(flow_run: Coroutine[Any, Any, UUID | None], owner: Owner) -> bool:
    try:
        return await owner.owns(await flow_run, in_pod=True)
    except NotFound:
        return True


def _refuse_unreadable(event: Mapping[str, Any], *, is_task_run: bool) -> None:
    """Raise Forbidden for an event on which the server's consumers would fail, for all runs."""
    try:
        read = Event.model_validate(event)
        if is_task_run:
            db_recordable_task_run_from_event(read.receive())
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise Forbidden(f"the server cannot read the event: {type(error).__name__}") from None


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield value


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


def _role(value: object) -> object:
    return value.get(_ROLE) if isinstance(value, dict) else None


def _id(kind: str, resource: str) -> UUID | None:
    """Return the id in the name of a resource of this kind, or None if it is of another kind."""
    prefix = f"{_PREFECTS}{kind}."
    if not resource.startswith(prefix):
        return None
    try:
        return UUID(resource.removeprefix(prefix))
    except ValueError:
        raise Forbidden(f"the event names {resource}, which has no valid id") from None
