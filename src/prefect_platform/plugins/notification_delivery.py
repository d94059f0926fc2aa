"""A plugin of Prefect: a notification is tried again until it arrives, and holds up no other one.

Prefect's consumer of actions sends a notification once, between the other actions: a channel that
does not answer keeps all of them waiting, and a message that it did not take is lost. Here the
action only renders its message. A docket of its own delivers it, so that tries of a dead channel
take no slot of Prefect's background work; with Redis it outlives the pod.

Prefect loads it as it is imported, in each process that has PREFECT_PLUGINS_ENABLED; it works where
actions are run: in the API's process, or in the background services when they have pods of their
own.
"""

import asyncio
import inspect
import logging
import random
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import httpx
from anyio import CapacityLimiter, to_thread
from docket import ConcurrencyLimit, CurrentDocket, Docket, Worker
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import UnknownBlockType
from prefect.logging import get_logger
from prefect.plugins import HookContext, register_hook
from prefect.server.events import actions
from prefect.server.events.actions import ActionFailed, SendNotification
from prefect.server.events.schemas.automations import TriggeredAction
from prefect.server.events.schemas.events import RelatedResource
from prefect.server.schemas.core import BlockDocument
from prefect.server.utilities.messaging import Message, MessageHandler
from prefect.settings.context import get_current_settings
from pydantic import ValidationError

from prefect_platform.plugins.email_block import EmailRefused

# Seconds from one try to the next, each stretched by up to a quarter: six tries in 8 to 10 minutes.
WAITS = (15.0, 30.0, 60.0, 120.0, 240.0)
# Less than a pod's grace period: a try that runs when the pod is told to go still ends.
TRY_SECONDS = 20.0
_JITTER = 0.25
_DOCKET = "notifications"
# Tries at once: of one process, and of one channel in all processes.
_CONCURRENCY = 100
_PER_CHANNEL = 4
# How long a delivery is remembered, so that an action that comes again is not sent again.
_REMEMBERED = timedelta(hours=1)
# What a killed process was sending is sent by another one after this time.
_TAKEN_OVER_AFTER = timedelta(minutes=1)
# Statuses of 400 to 499 that say "not now" instead of "not so".
_PASSING_STATUSES = {408, 409, 421, 423, 425, 429}
_APPRISE_STATUS = re.compile(r"\berror=(\d{3})\b")

_logger = get_logger("server.notifications")
_prefects_consumer = actions.consumer
# What Apprise logs in the thread of one try; it gives the reason of a failure in no other way.
_complaints: ContextVar[list[str]] = ContextVar("complaints")


class DeliveryFailed(Exception):  # noqa: N818 - it reports an outcome
    """One try did not deliver; `lasting` when the next one would fail the same way.

    The reason is seen in events and logs: it holds no URL, no password and no value of a block.
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if (lines := _complaints.get(None)) is not None:
            lines.append(record.getMessage())


@contextmanager
def listening_to_apprise() -> Iterator[None]:
    """Hand what Apprise warns of to the try in whose thread it did, and to no other.

    Prefect's blocks listen to all threads at once.
    """
    # Warnings alone: what is below them holds URLs.
    handler, apprise = _Complaints(logging.WARNING), logging.getLogger("apprise")
    apprise.addHandler(handler)
    try:
        yield
    finally:
        apprise.removeHandler(handler)


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make the service that runs the actions of this process use our consumer."""
    actions.consumer = consumer


@asynccontextmanager
async def consumer() -> AsyncGenerator[MessageHandler, None]:
    """Yield a handler that queues notifications and leaves all other actions to Prefect's.

    Runs the deliveries meanwhile. At the end tries that are under way are waited for.
    """
    url = get_current_settings().server.docket.url
    with listening_to_apprise():
        async with (
            _prefects_consumer() as others,
            Docket(name=_DOCKET, url=url, execution_ttl=_REMEMBERED) as docket,
        ):
            docket.register(deliver)

            async def handle(message: Message) -> None:
                triggered = message.data and TriggeredAction.model_validate_json(message.data)
                if triggered and isinstance(triggered.action, SendNotification):
                    await _accept(docket, triggered, triggered.action)
                else:
                    await others(message)

            # Should the worker end, the group ends the service with it, which /health reports.
            async with (
                asyncio.TaskGroup() as group,
                Worker(
                    docket, concurrency=_CONCURRENCY, redelivery_timeout=_TAKEN_OVER_AFTER
                ) as worker,
            ):
                group.create_task(worker.run_forever())
                yield handle
            await _report_lost(docket)


async def _accept(docket: Docket, triggered: TriggeredAction, action: SendNotification) -> None:
    """Render the message once, and queue it unless this very action is known already."""
    key = _key(triggered, 1)
    if await docket.get_execution(key):
        _logger.info("Notification %s is known already", triggered.id)
        return
    try:
        subject, body = await action.render(triggered)
    except ActionFailed as failed:
        await action.fail(triggered, failed.reason)
        return
    channel = str(action.block_document_id)
    await docket.add(deliver, key=key)(
        triggered.model_dump_json(), subject=subject, body=body, channel=channel, number=1
    )


def _key(triggered: TriggeredAction, number: int) -> str:
    return f"{triggered.id}:{number}"


async def deliver(
    triggered_action: str,
    *,
    subject: str,
    body: str,
    channel: Annotated[str, ConcurrencyLimit(_PER_CHANNEL)],
    number: int,
    docket: Docket = CurrentDocket(),  # noqa: B008 - how a docket's task asks for it
) -> None:
    """Try a delivery for the time `number`, counted from one, and queue the next when it fails.

    `channel` is the id of the block's document. The event of success or of the last failure is
    Prefect's own, as if the action had waited.
    """
    triggered = TriggeredAction.model_validate_json(triggered_action)
    action = triggered.action
    if not isinstance(action, SendNotification):
        raise TypeError(f"{action.type} is no notification")
    try:
        await attempt(action, triggered, subject, body)
    except DeliveryFailed as failed:
        failure = failed
    else:
        await action.succeed(triggered)
        return
    what = f"Notification of automation {triggered.automation.name!r} by {_channel(action)}"
    tries = len(WAITS) + 1
    if failure.lasting or number >= tries:
        after = f"after {number} of {tries} tries"
        _logger.error("%s is given up %s: %s", what, after, failure.reason)
        reason = f"Notification by {_channel(action)} failed {after}: {failure.reason}"
        await action.fail(triggered, reason)
        return
    wait = WAITS[number - 1] * random.uniform(1, 1 + _JITTER)  # noqa: S311 - no secret
    _logger.warning(
        "%s: try %d of %d failed, the next is in %.0f s: %s",
        *(what, number, tries, wait, failure.reason),
    )
    when = datetime.now(UTC) + timedelta(seconds=wait)
    await docket.add(deliver, when=when, key=_key(triggered, number + 1))(
        triggered_action, subject=subject, body=body, channel=channel, number=number + 1
    )


def _channel(action: SendNotification) -> str:
    """Return the block's name, or its id when it was not loaded."""
    for resource in action._resulting_related_resources:
        if resource.role == "block":
            return f"block {resource.name!r}"
    return f"block {action.block_document_id}"


async def attempt(
    action: SendNotification, triggered: TriggeredAction, subject: str, body: str
) -> None:
    """Load the block as it is now and let it send, within TRY_SECONDS.

    Raises DeliveryFailed, whatever went wrong.
    """
    try:
        async with asyncio.timeout(TRY_SECONDS):
            block = await _load(action, triggered)
            await _send(block, subject, body)
    except DeliveryFailed:
        raise
    except TimeoutError:
        raise DeliveryFailed("no answer in time") from None
    except httpx.HTTPStatusError as error:
        raise _refused_with(error.response.status_code) from None
    except httpx.TransportError as error:
        raise DeliveryFailed(f"{type(error).__name__}: {error}") from None
    except Exception as error:  # noqa: BLE001 - a block is anybody's code
        # Its text may hold a value of the block.
        raise DeliveryFailed(type(error).__name__) from None


async def _load(action: SendNotification, triggered: TriggeredAction) -> NotificationBlock:
    """Return the block of the action, with its secrets, and name it in the action's events."""
    async with await action.orchestration_client(triggered) as api:
        response = await api.read_block_document_raw(action.block_document_id)
    if response.status_code == httpx.codes.NOT_FOUND:
        raise DeliveryFailed("the block does not exist any more", lasting=True)
    if response.is_error:
        raise DeliveryFailed(f"the API answered {response.status_code} when asked for the block")
    document = BlockDocument.model_validate(response.json())
    action._resulting_related_resources.append(
        RelatedResource(
            {
                "prefect.resource.id": f"prefect.block-document.{document.id}",
                "prefect.resource.role": "block",
                "prefect.resource.name": document.name or "",
            }
        )
    )
    try:
        block = await actions._load_block_from_block_document(document)
    except UnknownBlockType as error:
        raise DeliveryFailed(str(error), lasting=True) from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc']))} {each['msg']}"
            for each in error.errors(include_input=False)
        )
        raise DeliveryFailed(f"the block is not valid: {wrong}", lasting=True) from None
    except (ValueError, LookupError, TypeError) as error:
        reason = f"the block is not valid ({type(error).__name__})"
        raise DeliveryFailed(reason, lasting=True) from None
    action._resulting_related_resources.append(
        RelatedResource(
            {
                "prefect.resource.id": f"prefect.block-type.{block.get_block_type_slug()}",
                "prefect.resource.role": "block-type",
            }
        )
    )
    if not isinstance(block, NotificationBlock):
        raise DeliveryFailed("the block is no notification block", lasting=True)
    return block


async def _send(block: NotificationBlock, subject: str, body: str) -> None:
    """Let the block send in a thread that nobody else waits for.

    Apprise would use the event loop's own few threads, which also look host names up: a handful of
    dead channels would stop the process.
    """
    complaints: list[str] = []
    _complaints.set(complaints)
    try:
        with block.raise_on_failure():
            await to_thread.run_sync(
                partial(_notify, block, subject, body),
                abandon_on_cancel=True,
                limiter=CapacityLimiter(1),
            )
    except EmailRefused as error:
        raise DeliveryFailed(error.log, lasting=True) from None
    except NotificationError as error:
        reason = "; ".join(complaints) or error.log
        status = _APPRISE_STATUS.search(reason)
        lasting = status is not None and _is_lasting(int(status[1]))
        raise DeliveryFailed(reason, lasting=lasting) from None


def _notify(block: NotificationBlock, subject: str, body: str) -> None:
    # Prefect's blocks return when all is done where no event loop runs; others are coroutines.
    outcome: object = block.notify(body, subject=subject)
    if inspect.iscoroutine(outcome):
        asyncio.run(outcome)


def _refused_with(status: int) -> DeliveryFailed:
    return DeliveryFailed(f"answered with HTTP status {status}", lasting=_is_lasting(status))


def _is_lasting(status: int) -> bool:
    """Return whether an answer with this HTTP status would be the same minutes later."""
    return status < httpx.codes.INTERNAL_SERVER_ERROR and status not in _PASSING_STATUSES


async def _report_lost(docket: Docket) -> None:
    """Say how many deliveries end with this process: those of a docket in memory."""
    if not docket.url.startswith("memory:"):
        return
    snapshot = await docket.snapshot()
    if snapshot.total_tasks:
        what = "Notifications that were not delivered before the end"
        _logger.error("%s: %d", what, snapshot.total_tasks)
