"""The forked process of the engine, in the place of one that Prefect's runner would start."""

import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskStatus


class EngineProcess:
    """A process that waits for its request, with what Prefect's runner uses of a process."""

    def __init__(self, pid: int, requests: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """The exit code, negative for a signal; None while the process is running."""
        self._requests = requests

    async def run(
        self,
        command: list[str],
        *,
        env: Mapping[str, str],
        task_status: TaskStatus[Any],
        task_status_handler: Callable[["EngineProcess"], Any],
        **_options: Any,  # noqa: ANN401 - the process has the session and the output already
    ) -> "EngineProcess":
        """Let the process do what `command` would, and wait for its end.

        Raises OSError if the process has ended before.
        """
        with os.fdopen(self._requests, "w") as requests:
            json.dump({"command": command, "environment": dict(env)}, requests)
        task_status.started(task_status_handler(self))
        try:
            await self._wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                os.kill(self.pid, signal.SIGKILL)
                await self._wait()
            raise
        return self

    async def _wait(self) -> None:
        process = os.pidfd_open(self.pid)
        try:
            await anyio.wait_readable(process)
        finally:
            os.close(process)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        # As PID 1 of a pod, this process inherits what its group leaves. Prefect waits for the end
        # of the group, to which a process counts until it is reaped.
        with suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
