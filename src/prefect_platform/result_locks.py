"""A lock manager for Prefect: two pods that need the same result compute it once.

    cache_policy=(INPUTS + TASK_SOURCE).configure(
        isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=LeasedLocks()
    )

A lock is a lease in Redis that its holder renews while its process is alive. When the pod is
killed, the lease expires and another pod computes the result. A process that is frozen for longer
than its lease loses the lock, so the lock saves work but does not guarantee that code runs once.
"""

import asyncio
import logging
import os
import threading
import time
from contextlib import suppress
from functools import cached_property
from math import inf
from typing import Any

from prefect.logging import get_logger
from redis import Redis, RedisError
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

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
    Redis does not answer and ValueError when the variable is missing: the task then fails, and its
    retries apply.
    """

    def __init__(self, lease_seconds: float = _LEASE_SECONDS) -> None:
        self._lease = lease_seconds
        self._guard = threading.Lock()
        self._renewed: dict[tuple[str, str], Lock] = {}
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
            self._renewed.pop((key, holder), None)
        # If the lock was lost or Redis is unreachable, there is nothing to do: the lease expires.
        with suppress(RedisError):
            self._lock(key, holder).release()

    def is_locked(self, key: str) -> bool:
        """Return whether anybody holds the lock."""
        return bool(self._redis.exists(_name(key)))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Return whether `holder` holds the lock, whichever process acquired it."""
        return bool(self._lock(key, holder).owned())

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until the lock is free; return False if that takes over `timeout` seconds."""
        seconds = inf if timeout is None else timeout
        return wait_until(lambda: not self.is_locked(key), seconds, every=_EVERY)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Do the same as `wait_for_lock`, in a thread."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)

    def _take(self, key: str, holder: str, hold_timeout: float | None) -> bool:
        lock = self._lock(key, holder, hold_timeout)
        if not lock.owned() and not lock.acquire(blocking=False, token=holder):
            return False
        if hold_timeout is None:
            with self._guard:
                self._renewed[key, holder] = lock
                if self._renewing is None:
                    self._renewing = threading.Thread(target=self._renew, daemon=True)
                    self._renewing.start()
        return True

    def _renew(self) -> None:
        while True:
            time.sleep(self._lease / _BEATS)
            with self._guard:
                renewed = list(self._renewed.items())
            for (key, holder), lock in renewed:
                try:
                    lock.reacquire()
                except LockNotOwnedError:
                    with self._guard:
                        lost = self._renewed.pop((key, holder), None)
                    if lost is not None:
                        _logger.warning("The lock of the result %s expired while it was held", key)
                except RedisError as error:
                    _logger.warning("The lock of the result %s was not renewed: %s", key, error)

    def _lock(self, key: str, holder: str, seconds: float | None = None) -> Lock:
        lock: Lock = self._redis.lock(
            _name(key), timeout=seconds or self._lease, thread_local=False
        )
        lock.local.token = holder.encode()
        return lock

    @cached_property
    def _redis(self) -> Redis:
        url = os.environ.get(URL_VARIABLE)
        if not url:
            raise ValueError(
                f"{URL_VARIABLE} is not set: it names the Redis that keeps the locks of results\n"
                "Next: set it in jobs.env of the chart prefect-worker (docs/operations/results.md)"
            )
        return Redis.from_url(url, socket_timeout=_ANSWER, socket_connect_timeout=_ANSWER)


def _name(key: str) -> str:
    return f"result-lock:{key}"
