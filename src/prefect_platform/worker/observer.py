"""Say whether Prefect's observer of the job pods still watches.

It is a kopf operator in a thread of the worker. A 403 that outlasts kopf's retries (54 s), or a
signal of Prefect that escapes a handler, ends one watch and with it all of them, and nothing starts
them again: the run of a failed Job would stay Running for ever. The thread itself lives on, because
one of its executor waits for the flag that stops the observer; so the watches are looked for.
"""

import asyncio
import time

import kopf
from prefect_kubernetes import observer  # type: ignore[import-untyped]

_RESOURCES = ("events.v1", "jobs.v1.batch", "pods.v1")
# Before the first watch come the clients of Prefect's API and Kubernetes' discovery, both retried.
_START_SECONDS = 300.0


class Watches:
    """The watches that the observer of this process has to keep open."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: float | None = None
        kopf.on.startup(id="loop of the watches")(self._find_loop)

    async def _find_loop(self, **_: object) -> None:
        self._loop = asyncio.get_running_loop()

    def ended(self) -> list[str]:
        """Return a sentence for each of the observer's watches that is no more.

        A watch that reconnects is one. Nothing before the worker starts the observer and after it
        has told it to stop, and for some minutes while the observer starts.
        """
        thread, stop = observer._observer_thread, observer._stop_flag
        if thread is None or thread.ident is None or (stop is not None and stop.is_set()):
            return []
        if self._due is None:
            self._due = time.monotonic() + _START_SECONDS
        missing = self._missing()
        if not missing:
            self._due = 0.0  # what was there once may never be missing
        return missing if time.monotonic() >= self._due else []

    def _missing(self) -> list[str]:
        """Return a sentence for each watch without a task; kopf drops those that have ended."""
        tasks = asyncio.all_tasks(self._loop) if self._loop else ()
        running = {task.get_name() for task in tasks}
        namespaces = sorted(observer.settings.observer.namespaces) or [None]
        return [
            f"the observer does not watch {resource} in {namespace or 'any namespace'}"
            for namespace in namespaces
            for resource in _RESOURCES
            if f"watcher for {resource}@{namespace}" not in running
        ]
