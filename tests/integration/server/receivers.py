"""Receivers of notifications on loopback: HTTPS and SMTP servers whose answers a test sets."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.integration.server.certificates import Authority
from tests.support.servers import free_ports

HOST = "127.0.0.1"
USER = "alerts"
PASSWORD = "of-the-mailbox"


class Certificates:
    """A certificate authority, and the certificate that it issued for HOST, as files."""

    def __init__(self, directory: Path) -> None:
        authority = Authority("of the receivers")
        self.ca = directory / "receivers-ca.crt"
        self.ca.write_bytes(authority.pem)
        certificate, key = directory / "receiver.crt", directory / "receiver.key"
        for path, content in zip((certificate, key), authority.issue(HOST), strict=True):
            path.write_bytes(content)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, key)


@dataclass
class Webhooks:
    """The requests received on each path, and the status codes that answer its next requests."""

    port: int
    received: dict[str, list[Any]] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def url(self, path: str) -> str:
        return f"https://{HOST}:{self.port}{path}"

    def receive(self, path: str, body: bytes) -> int:
        with self.arrived:
            self.received.setdefault(path, []).append(json.loads(body))
            self.arrived.notify_all()
            answers = self.answers.get(path)
            return answers.pop(0) if answers else HTTPStatus.OK

    def requests(self, path: str) -> list[Any]:
        with self.arrived:
            return list(self.received.get(path, []))

    def wait_for(self, path: str, count: int = 1, *, timeout: float = 120) -> list[Any]:
        """Wait until `path` has received `count` requests, and return their bodies."""
        with self.arrived:
            complete = self.arrived.wait_for(
                lambda: len(self.received.get(path, [])) >= count, timeout=timeout
            )
            assert complete, f"{len(self.received.get(path, []))} of {count} requests to {path}"
        return self.requests(path)


@contextmanager
def webhooks(certificates: Certificates) -> Iterator[Webhooks]:
    """Start an HTTPS server that accepts webhooks on any path."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(receiver.receive(self.path.partition("?")[0], body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.socket = certificates.context.wrap_socket(server.socket, server_side=True)
        receiver = Webhooks(server.server_address[1])
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield receiver
        server.shutdown()


class DeadChannel:
    """A socket that accepts connections and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._connections.append(self._listener.accept()[0])

    def attempts(self) -> tuple[int, int]:
        """Return how many connections wait for an answer, and how many gave up."""
        waiting = 0
        connections = list(self._connections)
        for connection in connections:
            connection.settimeout(0)
            try:
                while connection.recv(65536):
                    pass
            except BlockingIOError:
                waiting += 1
            except OSError:
                pass
        return waiting, len(connections) - waiting

    def close(self) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.close()


@dataclass
class Mailbox:
    """The emails received, and the answers to the next messages, to some recipients and to QUIT."""

    port: int
    messages: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    quit_answer: str = "221 Bye"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for this name
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if answer := self.refused.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            message = BytesParser(policy=default).parsebytes(envelope.content)
            assert isinstance(message, EmailMessage)
            self.messages.append(message)
            self.envelopes.append(envelope)
        return answer

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        return self.quit_answer


def _authenticate(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object
) -> AuthResult:
    expected = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=data == expected, handled=False)


@contextmanager
def mailbox(certificates: Certificates, security: str = "starttls") -> Iterator[Mailbox]:
    """Start an SMTP server; with `starttls` or `tls` it requires USER and PASSWORD."""
    (port,) = free_ports(1)
    box = Mailbox(port)
    encrypted = security != "none"
    server = Controller(
        box,
        hostname=HOST,
        port=port,
        ssl_context=certificates.context if security == "tls" else None,
        tls_context=certificates.context if security == "starttls" else None,
        require_starttls=security == "starttls",
        auth_required=encrypted,
        auth_require_tls=security == "starttls",
        authenticator=_authenticate,
    )
    with ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        yield box
