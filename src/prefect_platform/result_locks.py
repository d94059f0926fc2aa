"""A lock manager for Prefect: two pods that need the same result compute it once.

    cache_policy=(INPUTS + TASK_SOURCE).configure(
        isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=LeasedLocks()
    )

A lock is a lease in Redis that its holder renews while its process is alive. When the pod is
killed, the lease expires and another pod computes the result. A process that is frozen for longer
than its lease loses the lock, so the lock saves work but does not guarantee that code runs once.

Locks change in transactions, not in Lua scripts like those of the redis library's own lock. Their
user therefore needs no permission to run scripts, which could stop Redis for everyone else.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from math import inf
from typing import Any

from prefect.logging import get_logger
from redis import Redis, RedisError
from redis.client import Pipeline
from redis.exceptions import AuthenticationError, NoPermissionError

from prefect_platform.polling import wait_until

URL_VARIABLE = "RESULT_LOCKS_URL"
_LEASE_SECONDS = 30.0
_BEATS = 3  # renewals per lease, so that one may be missed
_EVERY = 0.2  # seconds between two attempts to take a lock that another run holds
_ANSWER = 5.0  # seconds that Redis has to answer

_logger: logging.Logger = get_logger("result_locks")


class LeasedLocks:
    """Locks for results, kept in the Redis at RESULT_LOCKS_URL (redis:// or rediss://).

    `lease_seconds` is how long the lock of a killed holder remains. Methods raise RedisError when
    Redis does not answer or refuses the user, and ValueError when the variable is missing: the task
    then fails, and its retries apply.
    """

    def __init__(self, lease_seconds: float = _LEASE_SECONDS) -> None:
        self._lease = lease_seconds
        self._guard = threading.Lock()
        self._renewed: set[tuple[str, str]] = set()
        self._renewing: threading.Thread | None = None

    # Prefect copies a cache policy when it is configured and pickles it to other processes with its
    # task. Locks and threads cannot be pickled, so a copy starts without them.
    def __reduce__(self) -> tuple[Any, ...]:
        return LeasedLocks, (self._lease,)

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Wait for the lock and return whether it was acquired.

        Times are in seconds. Without `acquire_timeout` it waits indefinitely. With a
        `hold_timeout` the lock expires after that time and is not renewed.
        """
        seconds = inf if acquire_timeout is None else acquire_timeout
        return wait_until(lambda: self._take(key, holder, hold_timeout), seconds, every=_EVERY)

    async def aacquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Do the same as `acquire_lock` without blocking the event loop."""
        until = inf if acquire_timeout is None else time.monotonic() + acquire_timeout
        # Not in a thread: a thread would still take the lock after its task has been cancelled.
        while not self._take(key, holder, hold_timeout):
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(_EVERY)
        return True

    def release_lock(self, key: str, holder: str) -> None:
        """Release the lock; the lock of another holder is left alone."""
        with self._guard:
            self._renewed.discard((key, holder))
        try:
            self._if_held(key, holder, lambda change, name: change.delete(name))
        except RedisError as error:
            # The result was computed, so the task does not fail: the lease expires.
            _logger.warning("The lock of the result %s was not released: %s", key, error)

    def is_locked(self, key: str) -> bool:
        """Return whether anybody holds the lock."""
        with _refusal_explained():
            return bool(self._redis.exists(_name(key)))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Return whether `holder` holds the lock, whichever process acquired it."""
        with _refusal_explained():
            return bool(self._redis.get(_name(key)) == holder.encode())

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until the lock is free; return False if that takes over `timeout` seconds."""
        seconds = inf if timeout is None else timeout
        return wait_until(lambda: not self.is_locked(key), seconds, every=_EVERY)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Do the same as `wait_for_lock`, in a thread."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)

    def _take(self, key: str, holder: str, hold_timeout: float | None) -> bool:
        lease = _milliseconds(hold_timeout or self._lease)
        if not self.is_lock_holder(key, holder):
            with _refusal_explained():
                if not self._redis.set(_name(key), holder, nx=True, px=lease):
                    return False
        if hold_timeout is None:
            with self._guard:
                self._renewed.add((key, holder))
                if self._renewing is None:
                    self._renewing = threading.Thread(target=self._renew, daemon=True)
                    self._renewing.start()
        return True

    def _renew(self) -> None:
        lease = _milliseconds(self._lease)
        while True:
            time.sleep(self._lease / _BEATS)
            with self._guard:
                renewed = list(self._renewed)
            for key, holder in renewed:
                try:
                    if self._if_held(key, holder, lambda change, name: change.pexpire(name, lease)):
                        continue
                except RedisError as error:
                    _logger.warning("The lock of the result %s was not renewed: %s", key, error)
                    continue
                with self._guard:
                    lost = (key, holder) in self._renewed
                    self._renewed.discard((key, holder))
                if lost:
                    _logger.warning("The lock of the result %s expired while it was held", key)

    def _if_held(self, key: str, holder: str, change: Callable[[Pipeline, str], object]) -> bool:
        """Call `change` with the lock's name if `holder` holds it; return whether that was so.

        Redis refuses the transaction when the lock changes hands after the check; it is then
        attempted again.
        """
        name = _name(key)

        def attempt(pipeline: Pipeline) -> None:
            if pipeline.get(name) != holder.encode():
                pipeline.unwatch()
                return
            pipeline.multi()
            change(pipeline, name)

        with _refusal_explained():
            return bool(self._redis.transaction(attempt, name))

    @cached_property
    def _redis(self) -> Redis:
        url = os.environ.get(URL_VARIABLE)
        if not url:
            raise ValueError(
                f"{URL_VARIABLE} is not set: it names the Redis that keeps the locks of results\n"
                "Next: set it in jobs.env of the chart prefect-worker (docs/operations/results.md)"
            )
        return Redis.from_url(url, socket_timeout=_ANSWER, socket_connect_timeout=_ANSWER)


@contextmanager
def _refusal_explained() -> Iterator[None]:
    """Add to an error of Redis that its user or one of its permissions is wrong."""
    try:
        yield
    except (AuthenticationError, NoPermissionError) as error:
        raise type(error)(
            f"the Redis at {URL_VARIABLE} refused its user: {error}\n"
            "Next: compare the user with docs/operations/results.md#restrict-the-user-of-the-locks"
        ) from None


def _name(key: str) -> str:
    return f"result-lock:{key}"


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
