"""Forward a local port into a cluster until it is closed."""

import re
import subprocess
import threading
from collections import deque
from collections.abc import Sequence

from prefect_platform.errors import PlatformError

_PAUSE = 1.0  # seconds before kubectl is restarted


class PortForward:
    """A `kubectl port-forward` that is restarted on the same local port whenever it exits.

    kubectl exits when the pod is deleted, and also when the pod resets a single connection
    (client-go, tools/portforward, `handleConnection`). Without the restart, all later connections
    would be refused.
    """

    def __init__(
        self, kubectl: Sequence[str], target: str, port: int, *, namespace: str, local_port: int = 0
    ) -> None:
        """Forward a port of 127.0.0.1 (0: a free one) to a port of `target`, such as service/NAME.

        Raises PlatformError when kubectl cannot reach the target.
        """
        self._command = [*kubectl, f"--namespace={namespace}", "port-forward", target]
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._process = self._start(f"{local_port or ''}:{port}")
        announced = self._process.stdout.readline() if self._process.stdout else ""
        local = re.search(r":(\d+) ->", announced)
        if local is None:
            with self._process:
                self._process.terminate()
            raise PlatformError(
                f"kubectl cannot forward a port to {target} in the namespace {namespace}: "
                f"{announced.strip()}",
                next_step="make status",
            )
        self.local_port = int(local[1])
        self._keeper = threading.Thread(
            target=self._keep, args=(f"{self.local_port}:{port}",), daemon=True
        )
        self._keeper.start()

    def close(self) -> None:
        """Close the port."""
        self._closed.set()
        with self._starting:
            self._process.terminate()
        self._keeper.join()

    def _keep(self, ports: str) -> None:
        process: subprocess.Popen[str] | None = self._process
        while process is not None:
            with process:
                # kubectl writes a line for each connection, and blocks when the pipe is full.
                deque(process.stdout or (), maxlen=0)
            process = None if self._closed.wait(_PAUSE) else self._start_again(ports)

    def _start_again(self, ports: str) -> subprocess.Popen[str] | None:
        with self._starting:
            if self._closed.is_set():
                return None
            self._process = self._start(ports)
            return self._process

    def _start(self, ports: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, ports],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
