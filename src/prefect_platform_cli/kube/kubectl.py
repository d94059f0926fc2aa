"""kubectl for one cluster, and the Python client of its API."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from kubernetes import client, config

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.process import run
from prefect_platform_cli.kube.clients import program
from prefect_platform_cli.kube.port_forward import PortForward

_MANAGER = "prefect-platform"


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
        """Apply YAML documents with server-side apply; True when anything changed."""
        if self.holds(manifests, manager=_MANAGER):
            return False
        self(*("apply", *_server_side(_MANAGER), "--filename=-"), stdin=manifests)
        return True

    def holds(self, manifests: str, *, manager: str) -> bool:
        """Return whether the cluster has every object exactly as in `manifests`.

        `manager` is the field manager of the comparison: a field that it owns and that the
        manifests no longer contain counts as a difference.
        """
        try:
            self(*("diff", *_server_side(manager), "--filename=-"), stdin=manifests)
        except PlatformError:
            return False
        return True

    def api(self) -> client.ApiClient:
        """Return a client of the Kubernetes API for the same cluster."""
        return config.new_client_from_config(str(self.kubeconfig))

    @contextmanager
    def port_forward(
        self, target: str, port: int, *, namespace: str, local_port: int = 0
    ) -> Iterator[int]:
        """Forward a port of `target` (such as service/NAME) to 127.0.0.1 and yield the local port.

        With `local_port` 0, a free port is used. It stays the same when the pod is replaced.
        """
        with closing(
            PortForward(self._command(), target, port, namespace=namespace, local_port=local_port)
        ) as forward:
            yield forward.local_port

    def _command(self) -> list[str]:
        return [str(program("kubectl")), "--kubeconfig", str(self.kubeconfig)]


def _server_side(manager: str) -> tuple[str, ...]:
    return ("--server-side", "--force-conflicts", f"--field-manager={manager}")
