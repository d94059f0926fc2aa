"""A web socket waits for its authorization while the database is away."""

import asyncio
import json
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

from starlette.types import Message

from prefect_platform.run_identity.authorization import Authorization
from prefect_platform.run_identity.identity import Unavailable
from prefect_platform.run_identity.web_socket import WebSocket

_AUTH = "admin:password"


def first(authorization: Mock) -> tuple[Message, AsyncMock]:
    """Send a token as the first message; return what Prefect receives, and what was sent."""
    message = {
        "type": "websocket.receive",
        "text": json.dumps({"type": "auth", "token": "of-a-pod"}),
    }
    scope: Any = {"type": "websocket", "path": "/events/in"}
    send = AsyncMock()
    socket = WebSocket(
        cast(Authorization, authorization), _AUTH, scope, AsyncMock(return_value=message), send
    )
    return asyncio.run(socket.receive()), send


def test_a_database_that_is_away_for_a_moment_does_not_close_the_socket() -> None:
    authorization = Mock(identify=AsyncMock(), decide=AsyncMock())
    authorization.workers.identify.return_value = None
    authorization.decide.side_effect = [Unavailable("the database does not answer"), None]

    received, sent = first(authorization)

    assert json.loads(received["text"])["token"] == _AUTH
    sent.assert_not_called()
