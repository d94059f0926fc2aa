"""The plugin adds headers to HTTP responses, and leaves their bodies and web sockets alone."""

import asyncio
from typing import Any

import pytest

from prefect_platform.plugins.security_headers import SecurityHeaders, security_headers

_OWN = (b"content-type", b"text/csv")
_ADDED = security_headers("")
_RESPONSE: tuple[dict[str, Any], ...] = (
    {"type": "http.response.start", "status": 200, "headers": [_OWN]},
    {"type": "http.response.body", "body": b"first", "more_body": True},
    {"type": "http.response.body", "body": b"last"},
)


async def receive() -> dict[str, Any]:
    raise AssertionError("the middleware must not read the request")


def sent(scope_type: str, *messages: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return what reaches the client, each with the number of messages that the app had sent."""
    counted = 0
    arrived = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI's
        nonlocal counted
        for message in messages:
            counted += 1
            await send(dict(message))

    async def send(message: Any) -> None:  # noqa: ANN401 - as ASGI's
        arrived.append((counted, message))

    asyncio.run(SecurityHeaders(app, _ADDED)({"type": scope_type}, receive, send))
    return arrived


def test_the_headers_are_added_to_those_of_the_response() -> None:
    _, start = sent("http", *_RESPONSE)[0]

    assert start["headers"] == [_OWN, *_ADDED]


def test_each_part_of_a_body_is_sent_before_the_next_one_is_made() -> None:
    assert sent("http", *_RESPONSE)[1:] == [(2, _RESPONSE[1]), (3, _RESPONSE[2])]


@pytest.mark.parametrize("scope_type", ["websocket", "lifespan"])
def test_other_connections_are_left_alone(scope_type: str) -> None:
    refusal = {"type": "websocket.http.response.start", "status": 403, "headers": [_OWN]}

    assert sent(scope_type, refusal) == [(1, refusal)]


def test_images_may_also_come_from_the_origins_in_the_variable() -> None:
    policy = dict(security_headers("https://a.example https://b.example:8443"))

    assert (
        b"img-src 'self' data: blob: https://a.example https://b.example:8443"
        in policy[b"content-security-policy"]
    )
