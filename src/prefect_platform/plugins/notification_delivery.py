"""A Prefect plugin: notifications are retried, and a dead channel does not delay the others.

Prefect's consumer of actions sends a notification once, in line with the other actions: a channel
that does not answer blocks all of them, and a message that it does not accept is lost. With this
plugin the action only renders the message. A separate docket delivers it, so that retries take no
slots from Prefect's background work. With Redis, queued messages survive the pod.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED. It takes
effect where actions run: in the API's process, or in the background services when they have pods of
their own.
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
from prefect.blocks.webhook import Webhook
from prefect.logging import get_logger
from prefect.plugins import HookContext, register_hook
from prefect.server.events import actions
from prefect.server.events.actions import ActionFailed, CallWebhook, SendNotification
from prefect.server.events.schemas.automations import TriggeredAction
from prefect.server.events.schemas.events import RelatedResource
from prefect.server.schemas.core import BlockDocument
from prefect.server.utilities.messaging import Message, MessageHandler
from prefect.settings.context import get_current_settings
from pydantic import ValidationError

from prefect_platform.plugins import notification_hosts
from prefect_platform.plugins.email_block import EmailRefused
from prefect_platform.plugins.notification_hosts import HostRefused

# Seconds between two attempts. Up to a quarter is added to each: six attempts in 8 to 10 minutes.
WAITS = (15.0, 30.0, 60.0, 120.0, 240.0)
# Less than a pod's grace period, so that an attempt finishes when the pod is stopped.
TRY_SECONDS = 20.0
_JITTER = 0.25
_DOCKET = "notifications"
# Concurrent attempts: of one process, and of one channel across all processes.
_CONCURRENCY = 100
_PER_CHANNEL = 4
# How long a delivery is remembered, so that an action that is received twice is sent once.
_REMEMBERED = timedelta(hours=1)
# After this time, another process takes over what a killed process was sending.
_TAKEN_OVER_AFTER = timedelta(minutes=1)
# Client errors (400 to 499) that are temporary, so that another attempt may succeed.
_PASSING_STATUSES = {408, 409, 421, 423, 425, 429}
_APPRISE_STATUS = re.compile(r"\berror=(\d{3})\b")

_logger = get_logger("server.notifications")
_prefects_consumer = actions.consumer
_prefects_webhook_block = CallWebhook._get_webhook_block
# What Apprise logs in the thread of one attempt: its only report of why a delivery failed.
_complaints: ContextVar[list[str]] = ContextVar("complaints")


class DeliveryFailed(Exception):  # noqa: N818 - it reports an outcome
    """One attempt failed; `lasting` is true when the next one would fail the same way.

    The reason appears in events and logs, so it must not contain a URL, a password or any value of
    a block.
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
    """Collect Apprise's warnings separately for the thread of each attempt.

    Prefect's blocks collect them from all threads at once.
    """
    # Warnings and above only: lower levels contain URLs.
    handler, apprise = _Complaints(logging.WARNING), logging.getLogger("apprise")
    apprise.addHandler(handler)
    try:
        yield
    finally:
        apprise.removeHandler(handler)


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make the service that runs actions in this process use the consumer of this module."""
    actions.consumer = consumer
    CallWebhook._get_webhook_block = _webhook_block  # type: ignore[method-assign]
    notification_hosts.install()


async def _webhook_block(self: CallWebhook, triggered_action: TriggeredAction) -> Webhook:
    """Return the block of the action; raises ActionFailed if its host is not declared.

    The block follows no redirects, so the host of its URL is the only one that it connects to.
    """
    block = await _prefects_webhook_block(self, triggered_action)
    try:
        notification_hosts.check(block.url.get_secret_value())
    except HostRefused as error:
        raise ActionFailed(str(error)) from None
    return block


@asynccontextmanager
async def consumer() -> AsyncGenerator[MessageHandler, None]:
    """Yield a handler that queues notifications and passes all other actions to Prefect's consumer.

    Delivers queued notifications inside the block; on exit, waits for attempts under way.
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

            # If the worker fails, the task group ends the service, and /health reports that.
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
    """Render the message once and queue it, unless this action has been queued before."""
    key = _key(triggered, 1)
    if await docket.get_execution(key):
        _logger.info("Notification %s has already been queued", triggered.id)
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
    """Make attempt `number` (counted from 1) of a delivery, and queue the next one if it fails.

    `channel` is the id of the block document. Success, and failure of the last attempt, emit
    Prefect's own events, as if the action had waited for the delivery.
    """
    triggered = TriggeredAction.model_validate_json(triggered_action)
    action = triggered.action
    if not isinstance(action, SendNotification):
        raise TypeError(f"{action.type} is not a notification action")
    try:
        await attempt(action, triggered, subject, body)
    except DeliveryFailed as failed:
        failure = failed
    else:
        await action.succeed(triggered)
        return
    what = f"Notification of automation {triggered.automation.name!r} through {_channel(action)}"
    tries = len(WAITS) + 1
    if failure.lasting or number >= tries:
        after = f"after {number} of {tries} attempts"
        _logger.error("%s failed for good %s: %s", what, after, failure.reason)
        reason = f"Notification through {_channel(action)} failed {after}: {failure.reason}"
        await action.fail(triggered, reason)
        return
    wait = WAITS[number - 1] * random.uniform(1, 1 + _JITTER)  # noqa: S311 - no secret
    _logger.warning(
        "%s: attempt %d of %d failed, the next one is in %.0f s: %s",
        *(what, number, tries, wait, failure.reason),
    )
    when = datetime.now(UTC) + timedelta(seconds=wait)
    await docket.add(deliver, when=when, key=_key(triggered, number + 1))(
        triggered_action, subject=subject, body=body, channel=channel, number=number + 1
    )


def _channel(action: SendNotification) -> str:
    """Return the block's name, or its id if it could not be loaded."""
    for resource in action._resulting_related_resources:
        if resource.role == "block":
            return f"block {resource.name!r}"
    return f"block {action.block_document_id}"


async def attempt(
    action: SendNotification, triggered: TriggeredAction, subject: str, body: str
) -> None:
    """Load the current version of the block and let it send, within TRY_SECONDS seconds.

    Every failure is raised as DeliveryFailed.
    """
    try:
        async with asyncio.timeout(TRY_SECONDS):
            block = await _load(action, triggered)
            await _send(block, subject, body)
    except DeliveryFailed:
        raise
    except TimeoutError:
        raise DeliveryFailed(f"no answer within {TRY_SECONDS:g} s") from None
    except httpx.HTTPStatusError as error:
        raise _refused_with(error.response.status_code) from None
    except httpx.TransportError as error:
        raise DeliveryFailed(f"{type(error).__name__}: {error}") from None
    except Exception as error:  # noqa: BLE001 - a block may contain any code
        # The text of the error may contain a value of the block.
        raise DeliveryFailed(type(error).__name__) from None


async def _load(action: SendNotification, triggered: TriggeredAction) -> NotificationBlock:
    """Return the action's block with its secrets, and add the block to the action's events."""
    async with await action.orchestration_client(triggered) as api:
        response = await api.read_block_document_raw(action.block_document_id)
    if response.status_code == httpx.codes.NOT_FOUND:
        raise DeliveryFailed("the block no longer exists", lasting=True)
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
        raise DeliveryFailed("the block is not a notification block", lasting=True)
    return block


async def _send(block: NotificationBlock, subject: str, body: str) -> None:
    """Let the block send in a thread of its own.

    Apprise would use the event loop's default threads, which are few and also resolve host names: a
    handful of dead channels would block the process.
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
    except HostRefused as error:
        raise DeliveryFailed(str(error), lasting=True) from None
    except EmailRefused as error:
        raise DeliveryFailed(error.log, lasting=True) from None
    except NotificationError as error:
        reason = "; ".join(complaints) or error.log
        status = _APPRISE_STATUS.search(reason)
        lasting = status is not None and _is_lasting(int(status[1]))
        raise DeliveryFailed(reason, lasting=lasting) from None


def _notify(block: NotificationBlock, subject: str, body: str) -> None:
    with notification_hosts.confined():
        try:
            # Without an event loop, Prefect's blocks return when done; others return a coroutine.
            outcome: object = block.notify(body, subject=subject)
            if inspect.iscoroutine(outcome):
                asyncio.run(outcome)
        finally:
            # Some clients of Apprise log out when they are deleted, which is confined only here.
            if (client := getattr(block, "_apprise_client", None)) is not None:
                client.clear()


def _refused_with(status: int) -> DeliveryFailed:
    return DeliveryFailed(
        f"the receiver answered with HTTP status {status}", lasting=_is_lasting(status)
    )


def _is_lasting(status: int) -> bool:
    """Return whether an HTTP status is a permanent failure, which a retry would not cure."""
    return status < httpx.codes.INTERNAL_SERVER_ERROR and status not in _PASSING_STATUSES


async def _report_lost(docket: Docket) -> None:
    """Log how many deliveries are lost with this process if its docket is kept in memory."""
    if not docket.url.startswith("memory:"):
        return
    snapshot = await docket.snapshot()
    if snapshot.total_tasks:
        what = "Notifications that are lost because the process ends before their delivery"
        _logger.error("%s: %d", what, snapshot.total_tasks)
