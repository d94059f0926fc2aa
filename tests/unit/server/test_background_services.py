"""The health check reports a loop of the background services that stopped for any reason."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from docket import Docket
from prefect.server.events.services import event_persister

from prefect_platform.server import background_services
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


class _LosesOneCancellation:
    """A consumer of events that Redis answers at the moment when it is cancelled."""

    async def run(self, _: object) -> None:
        # The wait_for of Python 3.11 returns the answer and forgets the cancellation.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def cleanup(self) -> None:
        return


def test_a_service_stops_although_one_cancellation_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_services, "_STOP_SECONDS", 0.05)
    monkeypatch.setattr(
        event_persister, "create_consumer", lambda *_, **__: _LosesOneCancellation()
    )

    async def start_and_stop() -> None:
        service = event_persister.EventPersister()  # type: ignore[no-untyped-call]
        loop = asyncio.create_task(service.start())
        await service.started_event.wait()
        await asyncio.sleep(0)
        await background_services.stop({service: loop})
        await loop

    asyncio.run(asyncio.wait_for(start_and_stop(), 30))
