"""The platform's server in mode ha, small enough for two cores."""

import json
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client as kubernetes_client

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import helm

NAMESPACE = "prefect"
_SMALL = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
# When this file appears in a container, one loop of its process ends, as a bug could make it end.
END_LOOP = "/tmp/end-event-persister"  # noqa: S108 - in the container
_FAULT = f"""
import gc, os, threading, time

def consumers():
    persisters = [each for each in gc.get_objects() if type(each).__name__ == "EventPersister"]
    return [each.consumer_task for each in persisters if each.consumer_task]

def wait():
    # A container that has just started has no consumers yet.
    while not (os.path.exists("{END_LOOP}") and (found := consumers())):
        time.sleep(0.2)
    os.remove("{END_LOOP}")  # or the next container would end, too
    for each in found:
        print("Ends", each.get_name(), flush=True)
        # Python 3.11 can lose a cancellation that arrives when a write to Redis has just ended.
        while not each.done():
            each.get_loop().call_soon_threadsafe(each.cancel)
            time.sleep(1)

threading.Thread(target=wait, daemon=True).start()
"""
_VALUES: dict[str, Any] = {
    "mode": "ha",
    "api": {"replicas": 2, "resources": _SMALL},
    "backgroundServices": {
        "replicas": 2,
        "resources": _SMALL,
        "extraVolumes": [{"name": "fault", "configMap": {"name": "fault"}}],
        "extraVolumeMounts": [{"name": "fault", "mountPath": "/etc/fault"}],
    },
    "redis": {
        "embedded": {
            "storage": {"size": "1Gi"},
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {}},
        }
    },
    "extraEnv": [{"name": "PYTHONPATH", "value": "/etc/fault"}],
}


class Server:
    """The release prefect-server in one of its modes."""

    def __init__(self, kubectl: Kubectl, mode: str, values: Path) -> None:
        self.kubectl, self.mode, self.values = kubectl, mode, values
        self.core = kubernetes_client.CoreV1Api(kubectl.api())

    def upgrade(self, *options: str, wait: bool = True) -> None:
        """Upgrade the release with `options` such as --set, and keep all other values."""
        chart = str(REPOSITORY / "helm" / "prefect-server")
        self.helm(
            *(
                "upgrade",
                "prefect-server",
                chart,
                "--reset-then-reuse-values",
                "--values",
                str(self.values),
            ),
            *options,
            wait=wait,
        )

    def helm(self, *arguments: str, wait: bool = True) -> str:
        """Run helm in the release's namespace."""
        return helm(self.kubectl, NAMESPACE, *arguments, wait=wait)

    def pods(self, selector: str = "app.kubernetes.io/instance=prefect-server") -> dict[str, int]:
        """Return the number of restarts of each pod that is not terminating, by name."""
        return {
            pod.metadata.name: sum(each.restart_count for each in pod.status.container_statuses)
            for pod in self.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
            if pod.metadata.deletion_timestamp is None and pod.status.container_statuses
        }

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.kubectl("--namespace", NAMESPACE, *arguments, stdin=stdin)


def ha_server(kubectl: Kubectl, values: Path) -> Server:
    """Switch the platform's server to mode ha permanently, and write its values to `values`."""
    values.write_text(yaml.safe_dump(_VALUES))
    fault = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "fault", "namespace": NAMESPACE},
        "data": {"sitecustomize.py": _FAULT},
    }
    kubectl.apply(json.dumps(fault))
    server = Server(kubectl, "ha", values)
    server.upgrade()
    return server


def single_server(server: Server, values: Path) -> Server:
    """Switch the server back to mode single permanently."""
    one = {"replicas": 1}
    values.write_text(yaml.safe_dump({"mode": "single", "api": one, "backgroundServices": one}))
    single = Server(server.kubectl, "single", values)
    single.upgrade()
    return single
