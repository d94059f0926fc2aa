"""A kind cluster under test: its workload, its state, and an interrupted creation."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine.private import PrivateEngine
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.host.process import run
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support.host_snapshot import take

_T = TypeVar("_T")
# If a shell runs the tests in the background, they and their child processes ignore Ctrl-C.
_CREATE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "import sys; from prefect_platform_cli.cluster.kind import KindProvider;"
    "KindProvider(sys.argv[1], engine='private', node_image='build').create()"
)
_WORKLOAD = """
apiVersion: v1
kind: ConfigMap
metadata: {name: kept}
data: {word: precious}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 16Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: first}
spec:
  selector: {name: first}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: first, labels: {name: first}}
spec:
  nodeSelector: {kubernetes.io/hostname: CLUSTER-control-plane}
  tolerations: [{key: node-role.kubernetes.io/control-plane}]
  terminationGracePeriodSeconds: 0
  containers:
    - name: web
      image: prefect-platform.local/node-tools:v1
      command:
        - sh
        - -c
        - test -e /data/kept || echo precious >/data/kept; exec httpd -f -p 8080 -h /data
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: kept}}]
---
apiVersion: v1
kind: Pod
metadata: {name: second}
spec:
  nodeSelector: {kubernetes.io/hostname: CLUSTER-worker}
  terminationGracePeriodSeconds: 0
  containers:
    - name: asks
      image: prefect-platform.local/node-tools:v1
      command: [sleep, infinity]
"""


@dataclass(frozen=True)
class Machine:
    """The machine, with the folder in which the tests' clusters keep their state."""

    state: Path


class Resident:
    """The kind cluster `name`, which may not exist yet."""

    def __init__(self, machine: Machine, name: str, *, nodes: int) -> None:
        self.name = name
        self.engine = PrivateEngine(name)
        self.provider = KindProvider(name, nodes=nodes, engine="private", node_image="build")
        self._machine = machine
        self.before = self.snapshot()

    def snapshot(self) -> frozenset[str]:
        """Return everything that the cluster could leave behind."""
        return take(self.engine, self._machine.state)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what kubectl prints, without the newline at its end."""
        return Kubectl(self.provider.kubeconfig())(*arguments, stdin=stdin).strip()

    def docker(self, *arguments: str) -> str:
        """Return what docker prints, without the newline at its end."""
        return run(
            [self.engine.docker, *arguments],
            failure=f"docker {' '.join(arguments)}",
            next_step="read the engine's log",
            env={**os.environ, **self.engine.environment()},
        ).strip()

    def deploy_workload(self) -> None:
        """Run the pod `first`, which serves a volume, and `second` on the other node."""
        self.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        self.kubectl("apply", "--filename=-", stdin=_WORKLOAD.replace("CLUSTER", self.name))
        self.kubectl("wait", "--for=condition=Ready", "pod/first", "pod/second", "--timeout=120s")

    def ready_nodes(self) -> list[str]:
        """Return the names of the nodes that are Ready."""
        template = (
            '{range .items[?(@.status.conditions[-1].status=="True")]}{.metadata.name}{"\\n"}{end}'
        )
        return sorted(self.kubectl("get", "nodes", f"--output=jsonpath={template}").split())

    def addresses(self) -> dict[str, str]:
        """Return the address of each node's container, and the API's on this machine."""
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        nodes = self.docker("ps", "--all", "--format={{.Names}}").split()
        found = {node: self.docker("inspect", f"--format={template}", node) for node in nodes}
        api = self.kubectl("config", "view", "--output=jsonpath={.clusters[0].cluster.server}")
        return {**found, "api": api}

    def interrupt_creation(self, *, after: str, when: Callable[[], bool] = lambda: True) -> None:
        """Create the cluster, and press Ctrl-C once its step `after` is done and `when` is true."""
        with self._creating() as creation:
            assert creation.stderr is not None
            for line in creation.stderr:
                if after in line:
                    break
            while not when():
                assert creation.poll() is None, "the creation ended before it could be interrupted"
            os.killpg(creation.pid, signal.SIGINT)
            creation.communicate()
        assert creation.returncode != 0, "the creation succeeded before it was interrupted"

    @contextmanager
    def _creating(self) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-c", _CREATE, self.name],
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as creation:
            yield creation


def eventually(read: Callable[[], _T], seconds: float = 60) -> _T:
    """Call `read` until it raises no error, and return its result; fail after `seconds`."""
    return retry(
        retry=retry_if_exception_type((PlatformError, AssertionError)),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.5),
        reraise=True,
    )(read)()
