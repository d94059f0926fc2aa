"""Let pods use the API with their tokens, each for what its part of the platform needs.

A request with a token, or with the password of a worker, is decided here. If it is allowed, it goes
on to Prefect with the server's auth string instead. All other requests are left to Prefect.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from prefect.logging import get_logger
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_platform.run_identity.authorization import Authorization
from prefect_platform.run_identity.identity import (
    Malformed,
    Refused,
    Unauthorized,
    Unavailable,
    one_line,
)
from prefect_platform.run_identity.web_socket import WebSocket

_RETRY_AFTER = {"Retry-After": "5"}  # seconds
_OF_AUTOMATIONS = b"prefect-automation-"  # with them, Prefect calls an automation the creator
_REPLACED = (b"authorization", b"content-length", b"content-type")

_logger = get_logger("server.run_identity")


class RunIdentityMiddleware:
    """An ASGI middleware around the API, inside the path that the API is mounted at."""

    def __init__(
        self, app: ASGIApp, authorization: Callable[[], Authorization], auth_string: str
    ) -> None:
        self._app = app
        self._authorization = authorization
        self._auth_string = auth_string
        encoded = base64.b64encode(auth_string.encode())
        self._trusted = (b"authorization", b"Basic " + encoded)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide about one connection."""
        if scope["type"] == "websocket":
            socket = WebSocket(self._authorization(), self._auth_string, scope, receive, send)
            await self._app(scope, socket.receive, socket.send)
            return
        header = Headers(scope=scope).get("authorization", "") if scope["type"] == "http" else ""
        scheme, _, credential = header.partition(" ")
        if scheme.lower() not in ("bearer", "basic"):
            await self._app(scope, receive, send)
            return
        method, path, who = scope["method"], get_route_path(scope), "a token"
        authorization = self._authorization()
        try:
            if scheme.lower() == "bearer":
                identity = await authorization.identify(credential.strip())
            elif (worker := authorization.workers.identify_header(credential)) is not None:
                identity = worker
            else:
                await self._app(scope, receive, send)
                return
            who = identity.who
            matched = authorization.route(identity, method, path)
            request = Request(scope, receive)
            content, body = await _read(request)
            await authorization.decide(identity, matched, body, _query(request))
        except Refused as error:
            what, status = one_line(f"{method} {path}"), error.status
            _logger.warning("Refused %s of %s with %d: %s", what, who, status, error.line)
            await _answer(error)(scope, receive, send)
            return
        trusted = {**scope, "headers": self._headers(scope, content)}
        await self._app(trusted, _replayed(content, receive), send)

    def _headers(self, scope: Scope, content: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers with the server's auth string, for the body that was decided about."""
        kept = [
            (name, value)
            for name, value in scope["headers"]
            if name not in _REPLACED and not name.startswith(_OF_AUTOMATIONS)
        ]
        kept += [self._trusted, (b"content-length", str(len(content)).encode())]
        return [*kept, (b"content-type", b"application/json")] if content else kept


async def _read(request: Request) -> tuple[bytes, Any]:
    """Return the body in the form that Prefect gets and what it contains; raises Malformed.

    It is written anew, so that what was decided about is what Prefect reads.
    """
    raw = await request.body()
    if not raw:
        return b"", None
    try:
        body = json.loads(raw)
        return json.dumps(body).encode(), body
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None


def _query(request: Request) -> dict[str, str]:
    """Return the query of a request; raises Malformed for a name that is given twice."""
    pairs = request.query_params.multi_items()
    if len(pairs) != len(dict(pairs)):
        raise Malformed("a name is in the query twice")
    return dict(pairs)


def _replayed(content: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives this body."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _answer(error: Refused) -> JSONResponse:
    sentence = error.status.phrase if isinstance(error, Unauthorized) else str(error)
    headers = _RETRY_AFTER if isinstance(error, Unavailable) else None
    return JSONResponse({"exception_message": sentence}, error.status, headers)
