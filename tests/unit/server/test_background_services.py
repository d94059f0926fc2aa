"""The health check reports a loop of the background services that stopped for any reason."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from docket import Docket

from prefect_platform.server.background_services import Loops, health_api


async def _fails() -> None:
    raise RuntimeError("no such stream")


async def _returns() -> None:
    return


async def _runs() -> None:
    await asyncio.Event().wait()


async def health_of(
    loop: Callable[[], Awaitable[None]], prepare: Callable[[Docket], Awaitable[None]] | None = None
) -> httpx.Response:
    """Return the answer of /health for one loop and a docket in memory."""

    async def turn() -> None:
        await loop()

    url = f"memory://{time.monotonic_ns()}"
    async with Docket(name="one-test", url=url, execution_ttl=timedelta(0)) as docket:
        if prepare:
            await prepare(docket)
        task = asyncio.create_task(turn())
        await asyncio.wait([task], timeout=0.05)
        app = httpx.ASGITransport(app=health_api(Loops({"Scheduler": task}, docket)))
        async with httpx.AsyncClient(transport=app, base_url="http://pod") as client:
            answer = await client.get("/health")
        task.cancel()
    return answer


@pytest.mark.parametrize(
    ("loop", "reason"),
    [(_fails, "RuntimeError: no such stream"), (_returns, "it returned")],
)
def test_a_stopped_loop_is_reported_with_its_reason(
    loop: Callable[[], Awaitable[None]], reason: str
) -> None:
    answer = asyncio.run(health_of(loop))

    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.json()["stopped"] == [f"Scheduler has ended: {reason}"]


def test_running_loops_are_healthy() -> None:
    answer = asyncio.run(health_of(_runs))

    assert answer.status_code == httpx.codes.OK
    assert answer.json() == {"stopped": [], "loops": ["Scheduler"]}


@pytest.mark.parametrize(("seconds", "stopped"), [(600, 1), (60, 0), (-60, 0)])
def test_overdue_work_is_reported(seconds: int, stopped: int) -> None:
    async def add_work(docket: Docket) -> None:
        async with docket.redis() as redis:
            due = time.time() - seconds
            await redis.zadd(docket.queue_key, {"schedule_deployments": due})

    answer = asyncio.run(health_of(_runs, add_work))

    assert len(answer.json()["stopped"]) == stopped
