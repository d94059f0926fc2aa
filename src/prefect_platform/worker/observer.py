"""Check whether Prefect's observer still watches Jobs, pods and events.

The observer is a kopf operator in a thread of the worker. A 403 that outlasts kopf's retries
(54 s), or a Prefect signal that escapes a handler, ends one watch and thereby all of them. Nothing
restarts them, and the run of a failed Job would stay Running forever. The thread itself stays
alive, because a thread of its executor waits for the stop flag; so this module looks for the tasks
of the watches instead.
"""

import asyncio
import time

import kopf
from prefect_kubernetes import observer  # type: ignore[import-untyped]

_RESOURCES = ("events.v1", "jobs.v1.batch", "pods.v1")
# Before its first watch the observer connects to Prefect's API and runs Kubernetes' discovery, and
# retries both.
_START_SECONDS = 300.0


class Watches:
    """The watches that the observer of this process must keep open."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: float | None = None
        kopf.on.startup(id="loop of the watches")(self._find_loop)

    async def _find_loop(self, **_: object) -> None:
        self._loop = asyncio.get_running_loop()

    def ended(self) -> list[str]:
        """Return one sentence for each watch that has ended.

        A watch that is reconnecting has not ended. The list is empty before the worker starts the
        observer, during the first `_START_SECONDS` of the observer, and after it was told to stop.
        """
        thread, stop = observer._observer_thread, observer._stop_flag
        if thread is None or thread.ident is None or (stop is not None and stop.is_set()):
            return []
        if self._due is None:
            self._due = time.monotonic() + _START_SECONDS
        missing = self._missing()
        if not missing:
            self._due = 0.0  # all watches have started, so report a missing one at once
        return missing if time.monotonic() >= self._due else []

    def _missing(self) -> list[str]:
        """Return one sentence for each watch without a task; kopf removes tasks that have ended."""
        tasks = asyncio.all_tasks(self._loop) if self._loop else ()
        running = {task.get_name() for task in tasks}
        namespaces = sorted(observer.settings.observer.namespaces) or [None]
        return [
            f"the observer's watch of {resource} in {namespace or 'all namespaces'} does not run"
            for namespace in namespaces
            for resource in _RESOURCES
            if f"watcher for {resource}@{namespace}" not in running
        ]
