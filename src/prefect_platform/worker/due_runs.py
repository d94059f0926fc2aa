"""Let a worker poll when the API says that a run is scheduled or has released its slot.

A run would otherwise wait for half an interval on average. An event may be lost, so the polls at
the interval go on.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Self
from uuid import UUID

from prefect._internal._observation_delivery import ObservationDelivery
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter

_RUN = "prefect.flow-run."
# States in which a run waits for a worker. Late runs are left to the polls at the interval.
_WAITING = ("Scheduled", "Resuming", "AwaitingRetry")
# States in which a run no longer has a slot of the pool's or the queue's limit.
_RELEASED = (
    *("Completed", "Failed", "TimedOut", "Crashed"),
    *("Cancelling", "Cancelled", "Paused", "Suspended"),
)
# Seconds between an event and the poll. The range keeps several workers of a pool from taking the
# same run at the same time.
_DELAY = (0.05, 0.2)
# The server sends the event right before it stores the run, so the first poll may not find it.
_SECOND_DELAY = 1.0
_IDLE_SECONDS = 60.0  # between two calls that do nothing, while there is no connection


class DueRuns:
    """Calls `poll` soon after a run of the work pool with the id `pool` waits or releases its slot.

    `poll` returns the runs that it has found. While a call runs, events only cause one more call.
    An exception of `poll` is logged. Without a connection to the API, it is not called.
    """

    def __init__(
        self,
        pool: UUID,
        poll: Callable[[], Awaitable[Collection[UUID]]],
        logger: logging.Logger,
    ) -> None:
        self._poll = poll
        self._logger = logger
        self._is_due = asyncio.Event()
        self._reported: set[UUID] = set()  # runs that wait for a worker
        self._task: asyncio.Task[None] | None = None
        of_pool = EventFilter(
            event=EventNameFilter(name=[f"{_RUN}{state}" for state in (*_WAITING, *_RELEASED)]),
            any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{pool}"]),
        )
        self._delivery = ObservationDelivery(
            name="DueRuns",
            logger=logger,
            subscriber_factory=lambda: get_events_subscriber(
                filter=of_pool, reconnection_attempts=0
            ),
            on_event=self._note,
            check_current_state=self._nothing,
            on_unavailable=lambda error: logger.error("Scheduled runs are not reported: %s", error),
            polling_interval=_IDLE_SECONDS,
        )

    async def __aenter__(self) -> Self:
        await self._delivery.start()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._delivery.stop()

    def _note(self, event: Event) -> None:
        if event.event.removeprefix(_RUN) in _WAITING:
            self._reported.add(UUID(event.resource.id.removeprefix(_RUN)))
        self._is_due.set()

    async def _nothing(self) -> None:
        """Leave the state of the runs to the polls at the interval."""

    async def _follow(self) -> None:
        while True:
            await self._is_due.wait()
            try:
                await asyncio.sleep(random.uniform(*_DELAY))  # noqa: S311 - no secret
                self._is_due.clear()
                reported, self._reported = self._reported, set()
                if reported.difference(await self._poll()):
                    await asyncio.sleep(_SECOND_DELAY)
                    await self._poll()
            except Exception as error:  # noqa: BLE001 - the worker's own polls decide what it means
                self._logger.warning("A poll for a scheduled run failed: %s", error)
