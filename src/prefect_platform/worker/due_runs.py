"""Let a worker poll when the API says that a run is scheduled, not only at its interval.

A run would otherwise wait for half an interval on average. An event may be lost, and a run may be
held back by a limit, so the polls at the interval go on.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Self
from uuid import UUID

from prefect._internal._observation_delivery import ObservationDelivery
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter

# States in which a run waits for a worker. Late runs are left to the polls at the interval.
_STATES = ("Scheduled", "Resuming", "AwaitingRetry")
# Seconds between an event and the poll. The range keeps several workers of a pool from taking the
# same run at the same time.
_DELAY = (0.05, 0.2)
# The server sends the event right before it stores the run, so the first poll may not find it.
_SECOND_DELAY = 1.0
_IDLE_SECONDS = 60.0  # between two calls that do nothing, while there is no connection


class DueRuns:
    """Calls `poll` soon after each event about a scheduled run of the work pool with the id `pool`.

    While a call runs, events only cause one more call.
    An exception of `poll` is logged. Without a connection to the API, it is not called.
    """

    def __init__(
        self, pool: UUID, poll: Callable[[], Awaitable[object]], logger: logging.Logger
    ) -> None:
        self._poll = poll
        self._logger = logger
        self._is_due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        scheduled = EventFilter(
            event=EventNameFilter(name=[f"prefect.flow-run.{state}" for state in _STATES]),
            any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{pool}"]),
        )
        self._delivery = ObservationDelivery(
            name="DueRuns",
            logger=logger,
            subscriber_factory=lambda: get_events_subscriber(
                filter=scheduled, reconnection_attempts=0
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

    def _note(self, _event: Event) -> None:
        self._is_due.set()

    async def _nothing(self) -> None:
        """Leave the state of the runs to the polls at the interval."""

    async def _follow(self) -> None:
        while True:
            await self._is_due.wait()
            try:
                await asyncio.sleep(random.uniform(*_DELAY))  # noqa: S311 - no secret
                self._is_due.clear()
                await self._poll()
                await asyncio.sleep(_SECOND_DELAY)
                await self._poll()
            except Exception as error:  # noqa: BLE001 - the worker's own polls decide what it means
                self._logger.warning("A poll for a scheduled run failed: %s", error)
