"""Run Prefect's background services, and report over HTTP whether each loop still runs.

`prefect server services start` runs the same loops but never checks them: when one ends, events,
automations or schedules stop silently. Here `GET /health` answers with status 503 and the names of
the loops that have stopped, and the liveness probe restarts the container.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import uvicorn
from docket import Docket, Worker
from fastapi import FastAPI, Response, status
from prefect.logging.configuration import setup_logging
from prefect.server.services.base import Service
from prefect.server.services.perpetual_services import register_and_schedule_perpetual_services
from prefect.settings.context import get_current_settings
from redis.exceptions import RedisError

from prefect_platform import container

_PORT = 8080
# Prefect's own name for the docket of the services; the API uses another one.
_DOCKET = "prefect"
# A working docket starts due work within a second. The margin of minutes keeps a short outage from
# restarting every pod while all of them catch up.
_OVERDUE_SECONDS = 300.0
# A service that stops writes its last events within a second or two. This leaves room for two more
# attempts before the kubelet kills the container after 30 s.
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Loops:
    """The running loops by name, and the docket that holds the scheduled work."""

    tasks: Mapping[str, "asyncio.Task[None]"]
    docket: Docket

    def ended(self) -> list[str]:
        """Return one sentence for each loop that no longer runs."""
        return [
            f"{name} has ended: {_why(task)}" for name, task in self.tasks.items() if task.done()
        ]

    async def overdue(self) -> list[str]:
        """Return one sentence for each task that has been due for over `_OVERDUE_SECONDS`.

        The list is empty while Redis is down, because a restart would not help.
        """
        latest = time.time() - _OVERDUE_SECONDS
        try:
            async with self.docket.redis() as redis:
                late = await redis.zrangebyscore(self.docket.queue_key, 0, latest)
        except (OSError, RedisError):
            return []
        return [f"{key.decode()} was due more than {_OVERDUE_SECONDS:.0f} s ago" for key in late]


def _why(task: "asyncio.Task[None]") -> str:
    if task.cancelled():
        return "it was cancelled"
    error = task.exception()
    return f"{type(error).__name__}: {error}" if error else "it returned"


@asynccontextmanager
async def running() -> AsyncIterator[Loops]:
    """Start the enabled services like `prefect server services start`; stop them on exit."""
    url = get_current_settings().server.docket.url
    tasks: dict[str, asyncio.Task[None]] = {}
    async with Docket(name=_DOCKET, url=url, execution_ttl=timedelta(0)) as docket:
        try:
            async with Worker(docket) as worker:
                docket.register_collection("prefect.server.api.background_workers:task_functions")
                await register_and_schedule_perpetual_services(docket)
                services = [service() for service in Service.enabled_services()]
                tasks.update({each.name: asyncio.create_task(each.start()) for each in services})
                perpetual = tasks["docket worker"] = asyncio.create_task(worker.run_forever())
                try:
                    yield Loops(tasks, docket)
                finally:
                    await stop({each: tasks[each.name] for each in services})
                    perpetual.cancel()
        finally:
            # Leaving the worker's context ends its loop even if Python 3.11 lost the cancellation.
            await asyncio.gather(*tasks.values(), return_exceptions=True)


async def stop(loops: Mapping[Service, "asyncio.Task[None]"]) -> None:
    """Stop each service, whose loop is its task; those that hold events store them first."""
    stopping = {asyncio.create_task(service.stop()): loop for service, loop in loops.items()}
    pending = set(stopping)
    while pending:
        _, pending = await asyncio.wait(pending, timeout=_STOP_SECONDS)
        for each in pending:
            # Prefect cancels a loop once, and wait_for of Python 3.11, through which Redis is
            # written, loses a cancellation that arrives when the writing has just ended.
            stopping[each].cancel()
    # Stopping a service that has ended raises.
    await asyncio.gather(*stopping, return_exceptions=True)


def health_api(loops: Loops) -> FastAPI:
    """Return the application that answers `GET /health`."""
    app = FastAPI(title="Background services", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    async def health(response: Response) -> dict[str, list[str]]:
        stopped = [*loops.ended(), *await loops.overdue()]
        if stopped:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
            container.say(f"Not healthy: {'; '.join(stopped)}")
        return {"stopped": stopped, "loops": sorted(loops.tasks)}

    return app


async def serve() -> None:
    """Run until a signal arrives; the HTTP server handles it and raises it again after stopping."""
    setup_logging()  # otherwise Prefect does it later and turns the access log on again
    async with running() as loops:
        config = uvicorn.Config(
            health_api(loops),
            host="0.0.0.0",  # noqa: S104 - the kubelet asks from outside the pod
            port=_PORT,
            access_log=False,
            log_level="warning",
        )
        container.say(f"Started {', '.join(sorted(loops.tasks))}")
        await uvicorn.Server(config).serve()


def main() -> None:
    """Run the services."""
    asyncio.run(serve())


if __name__ == "__main__":
    container.run(main)
