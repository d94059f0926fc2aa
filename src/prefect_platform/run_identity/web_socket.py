"""A web socket of a flow run: who opened it, and which events pass.

Prefect expects a first message of the form {"type": "auth", "token": AUTH STRING}. A token without
a colon is that of a pod, because an auth string is `user:password`.
"""

import json
from datetime import UTC, datetime

from prefect.logging import get_logger
from starlette._utils import get_route_path
from starlette.status import WS_1008_POLICY_VIOLATION, WS_1013_TRY_AGAIN_LATER
from starlette.types import Message, Receive, Scope, Send
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from prefect_platform.run_identity.authorization import Authorization
from prefect_platform.run_identity.events import is_own_event, refuse_foreign_event
from prefect_platform.run_identity.identity import (
    Refused,
    RunIdentity,
    Unavailable,
    one_line,
)

_METHOD = "WEBSOCKET"
_SENDING = "WEBSOCKET /events/in"
_REVIEWED_WITHIN_SECONDS = 60.0

_logger = get_logger("server.run_identity")


class WebSocket:
    """Stands between a client and Prefect, as its `receive` and `send`."""

    def __init__(
        self,
        authorization: Authorization,
        auth_string: str,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._authorization = authorization
        self._auth_string = auth_string
        self._path = get_route_path(scope)
        self._receive = receive
        self._send = send
        self._is_first = True
        self._closed = False
        self._identity: RunIdentity | None = None
        self._route = ""

    async def receive(self) -> Message:
        """Return the next message that Prefect may see."""
        while not self._closed:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return message
            passed = await (self._first(message) if self._is_first else self._later(message))
            if passed is not None:
                return passed
        return {"type": "websocket.disconnect", "code": WS_1008_POLICY_VIOLATION}

    async def send(self, message: Message) -> None:
        """Send a message of Prefect, unless it is an event of another run."""
        if self._closed:
            return
        if self._identity is not None and message["type"] == "websocket.send":
            if await self._is_expired(self._identity):
                return
            sent = _json(message)
            event = sent.get("event") if isinstance(sent, dict) else None
            run, ancestry = self._identity.flow_run, self._authorization.ancestry
            if isinstance(event, dict) and not await is_own_event(event, run, ancestry):
                return
        await self._send(message)

    async def _first(self, message: Message) -> Message | None:
        self._is_first = False
        read = _json(message)
        token = read.get("token") if isinstance(read, dict) else None
        if not isinstance(read, dict) or not isinstance(token, str) or ":" in token:
            return message
        try:
            matched = self._authorization.route(_METHOD, self._path)
            identity = await self._identified(token)
            await self._authorization.decide(identity, matched)
        except Unavailable as error:
            await self._close(WS_1013_TRY_AGAIN_LATER, error.line)
        except Refused as error:
            await self._close(WS_1008_POLICY_VIOLATION, error.line)
        else:
            self._identity, self._route = identity, matched.route
            return _text({**read, "token": self._auth_string})
        return None

    async def _later(self, message: Message) -> Message | None:
        if self._identity is None:
            return message
        if await self._is_expired(self._identity):
            return None
        if self._route != _SENDING:
            return message
        event, run = _json(message), self._identity.flow_run
        try:
            await refuse_foreign_event(event, run, self._authorization.ancestry)
        except Refused as error:
            _logger.warning("Dropped an event of flow run %s: %s", run, error.line)
            return None
        return _text(event)

    async def _identified(self, token: str) -> RunIdentity:
        """Return the identity, after waiting for an answer, because clients do not try again."""
        tries = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(_REVIEWED_WITHIN_SECONDS),
            wait=wait_fixed(1.0),
            reraise=True,
        )
        return await tries(self._authorization.identify, token)

    async def _is_expired(self, identity: RunIdentity) -> bool:
        """Return whether the token has expired; if so, close, so that a new one is sent."""
        expired = identity.expires <= datetime.now(UTC)
        if expired:
            reason = f"the token of flow run {identity.flow_run} has expired"
            await self._close(WS_1013_TRY_AGAIN_LATER, reason)
        return expired

    async def _close(self, code: int, reason: str) -> None:
        self._closed = True
        _logger.warning("Closed the web socket %s: %s", one_line(self._path), reason)
        await self._send({"type": "websocket.close", "code": code, "reason": "Unauthorized"})


def _json(message: Message) -> object:
    try:
        return json.loads(message.get("text") or message.get("bytes") or "null")
    except (ValueError, RecursionError):
        return None


def _text(value: object) -> Message:
    """Return the message that was decided about, whatever another parser makes of the original."""
    return {"type": "websocket.receive", "text": json.dumps(value)}
