"""A web socket of a pod: who opened it, and which events pass.

Prefect expects a first message of the form {"type": "auth", "token": AUTH STRING}. A token without
a colon is that of a pod, because an auth string is `user:password`. That of a worker outside the
cluster is decided about as well.
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
    Identity,
    Refused,
    Unavailable,
    one_line,
)

_METHOD = "WEBSOCKET"
_SENDING = "WEBSOCKET /events/in"
_CHANNEL = "WEBSOCKET /work_pools/{work_pool_name}/workers/connect"
# With them, the first frame of a worker would create its work pool, or fill in its template.
_OF_A_POOL: dict[str, object] = {
    "create_pool_if_not_found": False,
    "default_base_job_template": {},
}
_ANSWERED_WITHIN_SECONDS = 60.0

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
        self._identity: Identity | None = None
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
            owner = self._authorization.owner(self._identity)
            if isinstance(event, dict) and not await is_own_event(event, owner):
                return
        await self._send(message)

    async def _first(self, message: Message) -> Message | None:
        self._is_first = False
        read = _json(message)
        token = read.get("token") if isinstance(read, dict) else None
        if not isinstance(read, dict) or not isinstance(token, str):
            return message
        worker = self._authorization.workers.identify(token)
        if worker is None and ":" in token:
            return message
        try:
            self._identity, self._route = await self._decided(worker, token)
        except Unavailable as error:
            await self._close(WS_1013_TRY_AGAIN_LATER, error.line)
        except Refused as error:
            await self._close(WS_1008_POLICY_VIOLATION, error.line)
        else:
            return _text({**read, "token": self._auth_string})
        return None

    async def _later(self, message: Message) -> Message | None:
        if self._identity is None:
            return message
        if await self._is_expired(self._identity):
            return None
        if self._route == _CHANNEL:
            return _text(_without_pool(_json(message)))
        if self._route != _SENDING:
            return message
        event, owner = _json(message), self._authorization.owner(self._identity)
        try:
            await refuse_foreign_event(event, owner, self._authorization.ancestry)
        except Refused as error:
            _logger.warning("Dropped an event of %s: %s", self._identity.who, error.line)
            return None
        return _text(event)

    async def _decided(self, worker: Identity | None, token: str) -> tuple[Identity, str]:
        """Return who opened the socket and its route, if that is allowed.

        Waits while Kubernetes or the database does not answer, because clients do not try again.
        """
        tries = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(_ANSWERED_WITHIN_SECONDS),
            wait=wait_fixed(1.0),
            reraise=True,
        )

        async def decide() -> tuple[Identity, str]:
            identity = worker or await self._authorization.identify(token)
            matched = self._authorization.route(identity, _METHOD, self._path)
            await self._authorization.decide(identity, matched)
            return identity, matched.route

        return await tries(decide)

    async def _is_expired(self, identity: Identity) -> bool:
        """Return whether the token has expired; if so, close, so that a new one is sent."""
        expired = identity.expires <= datetime.now(UTC)
        if expired:
            reason = f"the token of {identity.who} has expired"
            await self._close(WS_1013_TRY_AGAIN_LATER, reason)
        return expired

    async def _close(self, code: int, reason: str) -> None:
        self._closed = True
        _logger.warning("Closed the web socket %s: %s", one_line(self._path), reason)
        await self._send({"type": "websocket.close", "code": code, "reason": "Unauthorized"})


def _without_pool(frame: object) -> object:
    """Return a frame of a worker's channel that does not change the work pool."""
    payload = frame.get("payload") if isinstance(frame, dict) else None
    if not isinstance(frame, dict) or not isinstance(payload, dict):
        return frame
    replaced = {key: value for key, value in _OF_A_POOL.items() if key in payload}
    return {**frame, "payload": {**payload, **replaced}}


def _json(message: Message) -> object:
    try:
        return json.loads(message.get("text") or message.get("bytes") or "null")
    except (ValueError, RecursionError):
        return None


def _text(value: object) -> Message:
    """Return the message that was decided about, whatever another parser makes of the original."""
    return {"type": "websocket.receive", "text": json.dumps(value)}
