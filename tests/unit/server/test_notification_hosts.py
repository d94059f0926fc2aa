"""Notifications reach declared hosts only, whatever the block and the answer of a receiver."""

import asyncio
import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    MattermostWebhook,
    SlackWebhook,
)
from pydantic import SecretStr

from prefect_platform.plugins import notification_delivery, notification_hosts
from prefect_platform.plugins.email_block import Email
from prefect_platform.plugins.notification_delivery import DeliveryFailed
from prefect_platform.plugins.notification_hosts import HostRefused

_DECLARED = "127.0.0.1"
# Other names of the same receiver, so that only a refusal keeps a message from arriving.
_OTHERS = ["localhost", "127.0.0.2", "[::ffff:127.0.0.1]"]


_LOGGED_IN = {"access_token": "a", "home_server": "h", "user_id": "u", "room_id": "!r:h"}


class Receiver:
    """Counts the requests on all loopback addresses, and redirects those of a path to a URL."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[str] = []
        self.redirects: dict[str, str] = {}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            found.requests.append(self.path)
            location = found.redirects.get(self.path)
            self.send_response(307 if location else 200)
            if location:
                self.send_header("location", location)
            self.end_headers()
            self.wfile.write(json.dumps(_LOGGED_IN).encode())

        do_PUT = do_POST  # noqa: N815 - the name that the base class expects

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("", 0), Handler) as server:
        found.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFICATION_HOSTS", f"{_DECLARED},Hooks.Example.org.")
    monkeypatch.setattr(notification_hosts, "_resolved", set())


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Install what `confined` needs; it stays in this process, and acts in confined threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTIFICATION_HOSTS", "")
        notification_hosts.install()


def send(block: NotificationBlock) -> None:
    with notification_delivery.listening_to_apprise():
        asyncio.run(notification_delivery._send(block, "subject", "body"))


def refusal(block: NotificationBlock) -> str:
    with pytest.raises(DeliveryFailed) as failed:
        send(block)
    assert failed.value.lasting
    return failed.value.reason


def webhook(host: str, port: int) -> CustomWebhookNotificationBlock:
    return CustomWebhookNotificationBlock(
        name="alerts", url=f"http://{host}:{port}/", json_data={"body": "{{body}}"}
    )


def mattermost(host: str, port: int) -> MattermostWebhook:
    return MattermostWebhook(hostname=host, port=port, token=SecretStr("token"))


def mail(host: str, port: int) -> Email:
    return Email(
        host=host, port=port, security="none", sender="a@example.org", recipients=["b@example.org"]
    )


@pytest.mark.parametrize("block", [webhook, mattermost])
def test_a_declared_host_receives_the_message(
    receiver: Receiver, block: Callable[[str, int], NotificationBlock]
) -> None:
    send(block(_DECLARED, receiver.port))

    assert len(receiver.requests) == 1


@pytest.mark.parametrize("host", _OTHERS)
@pytest.mark.parametrize("block", [webhook, mattermost, mail])
def test_an_undeclared_host_is_refused_before_a_connection(
    receiver: Receiver, block: Callable[[str, int], NotificationBlock], host: str
) -> None:
    if block is mail:
        host = host.strip("[]")
    reason = refusal(block(host, receiver.port))

    name = host.strip("[]")
    assert reason == f"the host {name} is not in notifications.hosts of prefect-server"
    assert receiver.requests == []


def test_a_redirect_to_an_undeclared_host_is_refused(receiver: Receiver) -> None:
    receiver.redirects["/hooks/token"] = f"http://localhost:{receiver.port}/elsewhere"

    assert "the host localhost is not in" in refusal(mattermost(_DECLARED, receiver.port))
    assert receiver.requests == ["/hooks/token"]


def test_a_redirect_to_a_declared_host_is_followed(receiver: Receiver) -> None:
    receiver.redirects["/hooks/token"] = f"http://{_DECLARED}:{receiver.port}/elsewhere"
    send(mattermost(_DECLARED, receiver.port))

    assert receiver.requests == ["/hooks/token", "/elsewhere"]


def test_each_receiver_of_a_block_with_several_is_confined(receiver: Receiver) -> None:
    # Apprise notifies them in threads of their own.
    urls = [f"json://{host}:{receiver.port}/{host}" for host in (_DECLARED, "localhost")]

    assert "the host localhost is not in" in refusal(SlackWebhook(url=SecretStr(", ".join(urls))))
    assert receiver.requests == [f"/{_DECLARED}"]


def test_a_client_that_logs_out_when_it_is_deleted_is_confined(receiver: Receiver) -> None:
    logout = "/_matrix/client/v3/logout"
    receiver.redirects[logout] = f"http://localhost:{receiver.port}/elsewhere"
    url = f"matrix://user:password@{_DECLARED}:{receiver.port}/%21r%3Ah"
    with suppress(DeliveryFailed):
        send(SlackWebhook(url=SecretStr(url)))
    gc.collect()

    assert logout in receiver.requests
    assert "/elsewhere" not in receiver.requests


class _AsyncClientBlock(NotificationBlock):
    """A custom block as in Prefect's documentation: its client looks names up in other threads."""

    url: str

    async def notify(self, body: str, subject: str | None = None) -> None:  # noqa: ARG002
        async with httpx.AsyncClient() as client:
            await client.post(self.url, content=body)


@pytest.mark.parametrize(("host", "arrived"), [(_DECLARED, 1), ("localhost", 0)])
def test_a_block_whose_notify_is_a_coroutine_is_confined(
    receiver: Receiver, host: str, arrived: int
) -> None:
    block = _AsyncClientBlock(url=f"http://{host}:{receiver.port}/")
    with suppress(DeliveryFailed):
        send(block)

    assert len(receiver.requests) == arrived


def test_a_datagram_to_an_undeclared_host_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.2", 0))
        server.settimeout(0)
        url = f"rsyslog://127.0.0.2:{server.getsockname()[1]}"

        assert "the host 127.0.0.2 is not in" in refusal(SlackWebhook(url=SecretStr(url)))
        with pytest.raises(BlockingIOError):
            server.recv(1)


def test_a_thread_that_looks_names_up_for_a_later_attempt_refuses_no_declared_host(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFICATION_HOSTS", "localhost")
    with notification_hosts.confined():
        others = ThreadPoolExecutor(1)
        others.submit(socket.gethostname).result()
    with others, notification_hosts.confined():
        found = others.submit(socket.getaddrinfo, "localhost", 0, socket.AF_INET).result()
        socket.create_connection((str(found[0][4][0]), receiver.port)).close()


def test_only_the_threads_of_an_attempt_are_confined(receiver: Receiver) -> None:
    def connect() -> None:
        socket.create_connection(("localhost", receiver.port)).close()

    with ThreadPoolExecutor(1) as others:
        others.submit(connect).result()
        with suppress(HostRefused), notification_hosts.confined():
            with pytest.raises(PermissionError):
                connect()
            others.submit(connect).result()
    connect()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example.org/x", True),
        ("https://HOOKS.example.org./x", True),
        ("https://hooks.example.org.evil.example/x", False),
        ("https://hooks.example.org@evil.example/x", False),
        ("https://evil.example\\@hooks.example.org/x", True),
        ("http://localhost/", False),
        ("http://[::1]/", False),
        ("http://2130706433/", False),
        ("hooks.example.org", False),
        ("https://hooks.example.org:port/", False),
    ],
)
def test_the_host_of_a_webhook_is_read_as_its_client_reads_it(url: str, *, allowed: bool) -> None:
    try:
        notification_hosts.check(url)
    except HostRefused:
        assert not allowed
    else:
        assert allowed


def test_without_a_declaration_every_host_is_allowed(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFICATION_HOSTS")
    notification_hosts.check("http://localhost/")
    send(mattermost("localhost", receiver.port))

    assert receiver.requests == ["/hooks/token"]


def test_an_empty_declaration_allows_no_host(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFICATION_HOSTS", "")

    assert "is not in" in refusal(webhook(_DECLARED, receiver.port))
