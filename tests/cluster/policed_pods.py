"""Pods in a separate namespace, and NetworkPolicies for them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes import client as kubernetes_client

from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import eventually, restricted_pod

NAMESPACE = "policies"
PORTS = (8080, 8081, 8085)
SERVE = f"""
import http.server, threading
# On a busy node, the default of five waiting connections is reached. Another one would time out,
# and an open port would look closed.
http.server.ThreadingHTTPServer.request_queue_size = 128
for port in {PORTS}:
    server = http.server.ThreadingHTTPServer(("", port), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever).start()
"""
_TRY = """
import json, socket, sys
def answers(port):
    try:
        socket.create_connection((sys.argv[1], port), timeout=1).close()
    except OSError:
        return False
    return True
print(json.dumps([port for port in json.loads(sys.argv[2]) if answers(port)]), flush=True)
"""


class Pods:
    """The pods of the namespace: `client` and `other` connect to `server`."""

    def __init__(self, kubectl: Kubectl, image: str) -> None:
        self.kubectl = kubectl
        self._image = image
        self._core = kubernetes_client.CoreV1Api(kubectl.api())

    def run(self, name: str, *command: str, **container: object) -> None:
        """Start a pod that runs `command`, labelled with its name."""
        pod = restricted_pod(
            name,
            NAMESPACE,
            {"image": self._image, "command": ["python3", *command], **container},
        )
        pod["metadata"]["labels"] = {"app": name}
        pod["spec"]["automountServiceAccountToken"] = False
        self.kubectl("apply", "--filename=-", stdin=json.dumps(pod))

    def address(self, name: str) -> str:
        """Return a pod's address."""
        return str(self._core.read_namespaced_pod(name, NAMESPACE).status.pod_ip)

    def wait(self, name: str, condition: str) -> None:
        """Wait for a condition of a pod, such as jsonpath={.status.phase}=Succeeded."""
        waiting = ("wait", f"pod/{name}", f"--for={condition}", "--timeout=120s")
        self.kubectl(f"--namespace={NAMESPACE}", *waiting)

    def log(self, name: str) -> list[str]:
        """Return the words that a pod has printed."""
        return self.kubectl(f"--namespace={NAMESPACE}", "logs", name).split()

    def reached(self, *names: str) -> dict[str, list[int]]:
        """Return the ports of `server` that each of the pods `names` reaches."""
        ask = ["python3", "-c", _TRY, self.address("server"), json.dumps(PORTS)]
        return {
            name: json.loads(self.kubectl(f"--namespace={NAMESPACE}", "exec", name, "--", *ask))
            for name in names
        }

    @contextmanager
    def policy(self, pod: str, **spec: object) -> Iterator[None]:
        """Create a policy for the pod, and delete it at the end of the block."""
        metadata = {"name": f"tried-{pod}", "namespace": NAMESPACE}
        selector = {"matchLabels": {"app": pod}}
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata,
            "spec": {"podSelector": selector, **spec},
        }
        self.kubectl("create", "--filename=-", stdin=json.dumps(policy))
        try:
            yield
        finally:
            where = f"--namespace={NAMESPACE}"
            self.kubectl(where, "delete", "networkpolicy", metadata["name"])


@contextmanager
def policed_pods(kubectl: Kubectl, image: str) -> Iterator[Pods]:
    """Run `server`, `client` and `other` with `image`, which contains Python."""
    made = Pods(kubectl, image)
    kubectl("create", "namespace", NAMESPACE)
    try:
        kubectl(
            *(f"--namespace={NAMESPACE}", "wait", "serviceaccount/default"),
            *("--for=create", "--timeout=60s"),
        )
        made.run("server", "-c", SERVE, ports=[{"name": "web", "containerPort": 8081}])
        for name in ("client", "other"):
            made.run(name, "-c", "import signal; signal.pause()")
        for name in ("server", "client", "other"):
            made.wait(name, "condition=Ready")
        both = {"client": list(PORTS), "other": list(PORTS)}
        eventually("both clients reach the server", lambda: made.reached("client", "other") == both)
        yield made
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
