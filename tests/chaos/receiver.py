"""A receiver in the cluster for a notification of each run of a trial that crashes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube import names
from tests.chaos.parts import API
from tests.chaos.target import Target
from tests.cluster.deployed import restricted_pod

_NAME, _PORT = "chaos-receiver", 8080
_LABELS = {"chaos": "receiver"}
_SCRIPT = f"""
import http.server

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass  # the log is for the messages alone

http.server.ThreadingHTTPServer(("", {_PORT}), Receiver).serve_forever()
"""


class Receiver:
    """The pod, whose log contains each message that it received."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def runs(self) -> tuple[str, ...]:
        """Return the name of the run in each message, in the order of their arrival."""
        log = self._target.kubectl(API.here, "logs", f"pod/{_NAME}")
        return tuple(str(json.loads(line)["run"]) for line in log.splitlines())


@contextmanager
def receiving(target: Target, deployment: UUID) -> Iterator[Receiver]:
    """Notify a receiver of each run of the deployment that crashes."""
    _remove(target)  # an earlier trial may have been interrupted
    target.kubectl("create", "--filename=-", stdin=json.dumps(_pod(target)))
    target.kubectl("create", "--filename=-", stdin=json.dumps(_policy()))
    ready = ("wait", f"pod/{_NAME}", "--for=condition=Ready", "--timeout=120s")
    target.kubectl(API.here, *ready)
    address = target.kubectl(API.here, "get", f"pod/{_NAME}", "-o=jsonpath={.status.podIP}")
    with connected(target.kubectl) as prefect:
        block = CustomWebhookNotificationBlock(
            name=_NAME,
            url=f"http://{address}:{_PORT}",
            json_data={"run": "{{subject}}"},
        ).save(_NAME, overwrite=True)
        of_deployment = f"prefect.deployment.{deployment}"
        prefect.create_automation(
            AutomationCore(
                name=_NAME,
                trigger=EventTrigger(
                    expect={"prefect.flow-run.Crashed"},
                    match_related={"prefect.resource.id": of_deployment},
                    for_each={"prefect.resource.id"},
                    posture=Posture.Reactive,
                    threshold=1,
                ),
                actions=[
                    SendNotification(
                        block_document_id=block, subject="{{ flow_run.name }}", body="crashed"
                    )
                ],
            )
        )
    try:
        yield Receiver(target)
    finally:
        _remove(target)


def _remove(target: Target) -> None:
    with connected(target.kubectl) as prefect:
        for automation in prefect.read_automations_by_name(_NAME):
            prefect.delete_automation(automation.id)
    objects = (f"pod/{_NAME}", f"networkpolicy/{_NAME}")
    target.kubectl(API.here, "delete", *objects, "--ignore-not-found", "--grace-period=0")


def _pod(target: Target) -> dict[str, object]:
    """Return the pod, which has the image of the API, because each node has it."""
    (api, *_) = target.listed(API.namespace, "pods", API.selector)
    container = {
        "image": api["spec"]["containers"][0]["image"],
        "command": ["python", "-c", _SCRIPT],
        "readinessProbe": {"tcpSocket": {"port": _PORT}, "periodSeconds": 1},
    }
    pod = restricted_pod(_NAME, API.namespace, container)
    pod["metadata"]["labels"] = _LABELS
    return pod


def _policy() -> dict[str, object]:
    """Return a policy that lets the pods of the server send to the receiver."""
    port = [{"port": _PORT}]
    server = {"matchLabels": {"app.kubernetes.io/instance": names.SERVER_RELEASE}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": _NAME, "namespace": API.namespace},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": server}], "ports": port}],
            "egress": [{"to": [{"podSelector": {"matchLabels": _LABELS}}], "ports": port}],
        },
    }
