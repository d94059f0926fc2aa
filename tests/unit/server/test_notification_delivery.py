"""An attempt to deliver a notification ends in time, with a reason that has no secret in it."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import NoReturn, cast
from uuid import uuid4

import pytest
from docket import Worker
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    MattermostWebhook,
)
from prefect.server.events import actions
from prefect.server.events.actions import SendNotification
from prefect.server.events.schemas.automations import TriggeredAction
from prefect.server.events.services.actions import Actions
from pydantic import SecretStr

from prefect_platform.plugins import notification_delivery
from prefect_platform.plugins.notification_delivery import DeliveryFailed

_SECRET = "token-that-nobody-may-read"


class _CoroutineBlock(NotificationBlock):
    """A custom block as in Prefect's documentation: `notify` is a coroutine."""

    _said: str | None = None

    async def notify(self, body: str, subject: str | None = None) -> None:
        self._said = f"{subject}: {body}"


class _LeakyBlock(_CoroutineBlock):
    async def notify(self, body: str, subject: str | None = None) -> None:  # noqa: ARG002
        raise RuntimeError(f"cannot reach https://example.org/{_SECRET}")


async def attempt(block: NotificationBlock) -> None:
    """Deliver with a block that is not loaded; the integration tests load blocks from a server."""

    async def load(*_: object) -> NotificationBlock:
        return block

    action = SendNotification(block_document_id=uuid4(), subject="subject", body="body")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notification_delivery, "_load", load)
        triggered = cast(TriggeredAction, None)  # only _load reads it
        await notification_delivery.attempt(action, triggered, "subject", "body")


def failure(block: NotificationBlock) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as failed:
        asyncio.run(attempt(block))
    assert _SECRET not in failed.value.reason
    assert failed.value.__suppress_context__
    return failed.value


@pytest.fixture
def unresponsive() -> Iterator[int]:
    """Yield the port of a socket that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def not_found() -> Iterator[int]:
    """Yield the port of a server that answers every request with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def webhook(port: int) -> CustomWebhookNotificationBlock:
    url = f"http://127.0.0.1:{port}/{_SECRET}"
    return CustomWebhookNotificationBlock(name="alerts", url=url, timeout=300)


def mattermost(port: int) -> MattermostWebhook:
    return MattermostWebhook(hostname="127.0.0.1", port=port, token=SecretStr(_SECRET))


def test_an_attempt_times_out_if_the_channel_never_answers(
    unresponsive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification_delivery, "TRY_SECONDS", 0.5)

    failed = failure(webhook(unresponsive))
    assert (failed.reason, failed.lasting) == ("no answer within 0.5 s", False)


def test_a_refused_connection_is_a_temporary_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    failed = failure(webhook(port))
    assert (failed.reason, failed.lasting) == (
        "ConnectError: [Errno 111] Connection refused",
        False,
    )


def test_a_block_whose_notify_is_a_coroutine_delivers() -> None:
    block = _CoroutineBlock()
    asyncio.run(attempt(block))

    assert block._said == "subject: body"


def test_an_error_raised_by_a_block_is_reported_only_by_its_type() -> None:
    failed = failure(_LeakyBlock())

    assert (failed.reason, failed.lasting) == ("RuntimeError", False)


def test_concurrent_attempts_each_report_their_own_reason(not_found: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        away = listener.getsockname()[1]
    blocks = [mattermost(port) for port in (not_found, away) * 5]

    async def together() -> list[BaseException | None]:
        async with asyncio.timeout(60):
            with notification_delivery.listening_to_apprise():
                return await asyncio.gather(*map(attempt, blocks), return_exceptions=True)

    failures = asyncio.run(together())
    outcomes = [
        (failed.lasting, failed.reason) for failed in failures if isinstance(failed, DeliveryFailed)
    ]
    assert len(outcomes) == len(blocks)
    assert {lasting for lasting, _ in outcomes[0::2]} == {True}
    assert {lasting for lasting, _ in outcomes[1::2]} == {False}
    assert all("error=404" in reason and "onnection" not in reason for _, reason in outcomes[0::2])
    assert all("onnection" in reason and "404" not in reason for _, reason in outcomes[1::2])


def test_the_service_stops_when_the_delivery_worker_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # /health then reports the service as stopped, and the container is restarted.
    async def dies(_: Worker) -> NoReturn:
        raise RuntimeError("no such stream")

    async def run() -> None:
        async with asyncio.timeout(60):
            await Actions().start()  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Worker, "run_forever", dies)
    monkeypatch.setattr(actions, "consumer", notification_delivery.consumer)
    with pytest.raises(ExceptionGroup) as ended:
        asyncio.run(run())
    assert ended.group_contains(RuntimeError, match="no such stream")
