"""A run's web sockets carry its own events, and no others."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from prefect_platform.polling import wait_until
from tests.integration.run_identity.conftest import AUTH, Objects, World

_WITHIN = 30.0
_ALL = {"occurred": {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}}


def _event(resource: str, name: str = "order.arrived") -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "resource": {"prefect.resource.id": resource},
        "related": [],
        "payload": {},
    }


@asynccontextmanager
async def open_socket(world: World, path: str, token: str) -> AsyncIterator[ClientConnection]:
    """Open a web socket of the API and send the first message."""
    url = f"{world.url.replace('http', 'ws', 1)}{path}"
    async with websockets.connect(url, subprotocols=[websockets.Subprotocol("prefect")]) as socket:
        await socket.send(json.dumps({"type": "auth", "token": token}))
        yield socket


async def received(socket: ClientConnection) -> Any:  # noqa: ANN401 - JSON
    return json.loads(await asyncio.wait_for(socket.recv(), _WITHIN))


def _stored(world: World, event: dict[str, Any]) -> bool:
    found = world.api("POST", "/events/filter", {"filter": {**_ALL, "id": {"id": [event["id"]]}}})
    return bool(found["events"])


def test_only_a_runs_own_events_are_accepted(world: World, ids: Objects) -> None:
    foreign = _event(f"prefect.flow-run.{ids.foreign}", "prefect.flow-run.heartbeat")
    forged = _event(f"prefect.flow-run.{ids.own}", "prefect.flow-run.Crashed")
    own = _event(f"prefect.flow-run.{ids.own}", "prefect.flow-run.heartbeat")

    async def send() -> None:
        async with open_socket(world, "/events/in", world.token(ids.own)) as socket:
            assert (await received(socket))["type"] == "auth_success"
            for each in (foreign, forged, "no event", own):
                await socket.send(json.dumps(each))

    asyncio.run(send())

    assert wait_until(lambda: _stored(world, own), _WITHIN)
    assert not _stored(world, foreign)
    assert not _stored(world, forged)
    log = world.log.read_text()
    assert f"Dropped an event of flow run {ids.own}: only the platform sends the event" in log


def test_only_a_runs_own_events_are_delivered(world: World, ids: Objects) -> None:
    own, foreign = (
        _event(f"prefect.flow-run.{each}", "prefect.flow-run.heartbeat")
        for each in (ids.child, ids.foreign)
    )

    async def receive() -> list[str]:
        async with open_socket(world, "/events/out", world.token(ids.own)) as socket:
            assert (await received(socket))["type"] == "auth_success"
            await socket.send(json.dumps({"type": "filter", "filter": _ALL}))
            # The foreign event is first, so that its absence is seen when the own one arrives.
            await asyncio.to_thread(world.api, "POST", "/events", [foreign, own])
            seen: list[str] = []
            while own["id"] not in seen:
                seen.append((await received(socket))["event"]["id"])
            return seen

    assert foreign["id"] not in asyncio.run(receive())
    assert wait_until(lambda: _stored(world, foreign), _WITHIN)


@pytest.mark.parametrize(
    "path",
    ["/logs/out", "/task_runs/subscriptions/scheduled", "/work_pools/default/workers/connect"],
)
def test_other_web_sockets_are_closed(path: str, world: World, ids: Objects) -> None:
    async def connect() -> None:
        async with open_socket(world, path, world.token(ids.own)) as socket:
            await received(socket)

    with pytest.raises(websockets.ConnectionClosedError) as closed:
        asyncio.run(connect())

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == websockets.CloseCode.POLICY_VIOLATION


@pytest.mark.parametrize("token", ["x", "x.y.z", ""])
def test_a_web_socket_without_a_valid_token_is_closed(token: str, world: World) -> None:
    async def connect() -> None:
        async with open_socket(world, "/events/in", token) as socket:
            await received(socket)

    with pytest.raises(websockets.ConnectionClosedError):
        asyncio.run(connect())


def test_a_web_socket_of_people_is_left_alone(world: World, ids: Objects) -> None:
    event = _event(f"prefect.flow-run.{ids.foreign}", "prefect.flow-run.heartbeat")

    async def send() -> None:
        async with open_socket(world, "/events/in", ":".join(AUTH)) as socket:
            assert (await received(socket))["type"] == "auth_success"
            await socket.send(json.dumps(event))

    asyncio.run(send())

    assert wait_until(lambda: _stored(world, event), _WITHIN)


def test_a_web_socket_ends_with_its_token(world: World, ids: Objects) -> None:
    async def outlive() -> None:
        expires = int(time.time()) + 3
        token = world.resigned(world.token(ids.own), exp=expires)
        async with open_socket(world, "/events/out", token) as socket:
            assert (await received(socket))["type"] == "auth_success"
            await socket.send(json.dumps({"type": "filter", "filter": _ALL}))
            while True:
                own = _event(f"prefect.flow-run.{ids.own}")
                await asyncio.to_thread(world.api, "POST", "/events", [own])
                with suppress(TimeoutError):
                    await asyncio.wait_for(socket.recv(), 1)

    with pytest.raises(websockets.ConnectionClosedError) as closed:
        asyncio.run(asyncio.wait_for(outlive(), _WITHIN))

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == websockets.CloseCode.TRY_AGAIN_LATER
