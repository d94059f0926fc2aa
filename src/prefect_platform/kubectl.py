"""kubectl against one cluster, and the typed client for what is read rather than applied."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubernetes import client, config

from prefect_platform.cluster.toolchain import tool
from prefect_platform.errors import PlatformError
from prefect_platform.process import run


class Kubectl:
    """kubectl with the kubeconfig file `kubeconfig`, never the user's current context."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it printed; raises PlatformError when it fails."""
        return run(
            [*self._command(), *arguments],
            failure=f"kubectl {' '.join(arguments[:3])} failed",
            next_step="make status",
            stdin=stdin,
        )

    def apply(self, manifests: str) -> bool:
        """Apply YAML documents; True when any object was created or changed."""
        lines = self("apply", "--filename", "-", stdin=manifests).splitlines()
        return any(not line.endswith(" unchanged") for line in lines)

    def api(self) -> client.ApiClient:
        """Return a client of the Kubernetes API for the same cluster."""
        return config.new_client_from_config(str(self.kubeconfig))

    @contextmanager
    def port_forward(
        self, target: str, port: int, *, namespace: str, local_port: int = 0
    ) -> Iterator[int]:
        """Forward a port of `target` (such as service/NAME) to 127.0.0.1 and yield the local port.

        `local_port` 0 takes a free one.
        """
        forward = [f"--namespace={namespace}", "port-forward", target, f"{local_port or ''}:{port}"]
        with subprocess.Popen(
            [*self._command(), *forward],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                announced = process.stdout.readline() if process.stdout else ""
                local = re.search(r":(\d+) ->", announced)
                if local is None:
                    raise PlatformError(
                        f"no way to {target} in the namespace {namespace}: {announced.strip()}",
                        next_step="make status",
                    )
                yield int(local[1])
            finally:
                process.terminate()

    def _command(self) -> list[str]:
        return [str(tool("kubectl")), "--kubeconfig", str(self.kubeconfig)]
