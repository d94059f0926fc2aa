"""A lock that allows one `apply` at a time per server, kept as a Prefect variable.

The server offers no suitable lock: concurrency leases can be lost when an API restarts, and their
slots then stay taken. Creating a variable is atomic, and so is deleting one by its id. The holder
renews the variable; if it is no longer renewed, the holder has died, and the variable may be
deleted. Clocks of different machines are never compared: whoever waits only watches whether the
variable still changes.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.configuration.core.prefect_api import delete
from prefect_platform.errors import PlatformError

LOCK = "prefect_platform_lock"
_RENEW_SECONDS = 10.0
_STALE_SECONDS = 60.0
_WAIT_SECONDS = 240.0
_POLL_SECONDS = 1.0


class LockHandle:
    """The lock while it is held; `lost` is set when another apply has taken it over.

    `waited` is true when another apply held the lock first, so that the files of this one may be
    older.
    """

    def __init__(self, client: SyncPrefectClient, lock_id: str, *, waited: bool) -> None:
        self.lost = threading.Event()
        self.waited = waited
        self._client, self._id = client, lock_id

    def confirm(self) -> None:
        """Ask the server whether the lock is still held; raises PlatformError like `require`."""
        try:
            self._client.request("GET", "/variables/{id}", path_params={"id": self._id})
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            self.lost.set()
        self.require()

    def require(self) -> None:
        """Raise PlatformError when the lock was lost, because two would change one server."""
        if self.lost.is_set():
            raise PlatformError(
                "another apply took over, because this one could not reach the server for "
                f"{_STALE_SECONDS:.0f} s",
                next_step="run the same command again: it continues where this one stopped",
            )


@dataclass(frozen=True)
class LockTimings:
    """Intervals and time limits of the lock, in seconds.

    The holder renews the lock every `renew`; after `stale` without a renewal it may be taken. An
    apply gives up after `wait`, and looks at the lock every `poll`.
    """

    renew: float = _RENEW_SECONDS
    stale: float = _STALE_SECONDS
    wait: float = _WAIT_SECONDS
    poll: float = _POLL_SECONDS


@contextmanager
def exclusive(
    client: SyncPrefectClient, timings: LockTimings = LockTimings()
) -> Iterator[LockHandle]:
    """Hold the server's lock inside the block.

    Raises PlatformError when another live holder keeps it for over `timings.wait` seconds.
    """
    holder = f"{socket.gethostname()}/{os.getpid()}"
    lock_id, waited = _acquire(client, holder, timings)
    held, done = LockHandle(client, lock_id, waited=waited), threading.Event()

    def renew() -> None:
        beat = 0
        while not done.wait(timings.renew):
            beat += 1
            try:
                client.request(
                    "PATCH",
                    "/variables/{id}",
                    path_params={"id": lock_id},
                    json={"value": _value(holder, beat)},
                )
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    held.lost.set()
                    return
            except httpx.TransportError:
                continue  # the next beat retries; the lock goes stale only after several

    thread = threading.Thread(target=renew, name="lock", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        done.set()
        thread.join()
        delete(client, "/variables/{id}", id=lock_id)


def _acquire(client: SyncPrefectClient, holder: str, timings: LockTimings) -> tuple[str, bool]:
    started = seen_at = time.monotonic()
    seen: dict[str, Any] = {}
    while True:
        try:
            created = client.request(
                "POST", "/variables/", json={"name": LOCK, "value": _value(holder, 0)}
            )
            return str(created.json()["id"]), bool(seen)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
        found = _read(client)
        now = time.monotonic()
        if found is None:
            continue
        if (found["id"], found["value"]) != (seen.get("id"), seen.get("value")):
            seen, seen_at = found, now
        elif now - seen_at > timings.stale:
            delete(client, "/variables/{id}", id=found["id"])
            continue
        if now - started > timings.wait:
            raise PlatformError(
                f"another apply has held the lock of this server for {timings.wait:.0f} s: "
                f"{json.loads(found['value'])['holder']}",
                next_step="wait until it has finished, then run the same command again",
            )
        time.sleep(timings.poll)


def _value(holder: str, beat: int) -> str:
    return json.dumps({"holder": holder, "beat": beat})


def _read(client: SyncPrefectClient) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.request(
            "GET", "/variables/name/{name}", path_params={"name": LOCK}
        ).json()
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return None
        raise
    return found
