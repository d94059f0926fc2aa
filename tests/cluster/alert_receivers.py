"""A receiver in the cluster for messages to Slack, Teams, PagerDuty, a webhook and a mail server.

The hosts of Slack, Teams and PagerDuty are fixed in Prefect's blocks. Therefore, the cluster's DNS
resolves their names to a pod that logs all messages. The pod has a certificate of an authority that
the server's pods trust.
"""

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kubernetes import client as kubernetes_client

from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import restricted_pod
from tests.integration.server.certificates import Authority

NAMESPACE = "alert-receivers"
SLACK, PAGERDUTY = "hooks.slack.com", "events.pagerduty.com"
TEAMS = "prod-1.westeurope.logic.azure.com"
_EXTERNAL_HOSTS = (SLACK, TEAMS, PAGERDUTY)
MAIL = WEBHOOK = f"receiver.{NAMESPACE}.svc.cluster.local"
CA_FILE = "/etc/test-authority/ca.crt"
_RECEIVER = f"receiver.{NAMESPACE}.svc.cluster.local"
_SCRIPT = """
import http.server, json, ssl, sys, threading, time
sys.path.insert(0, "/etc/receiver/aiosmtpd.zip")
from aiosmtpd.controller import Controller
from email import message_from_bytes, policy

lock = threading.Lock()  # print writes a line and its newline separately

def write(**line):
    with lock:
        print(json.dumps({"at": time.time(), **line}), flush=True)

class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        write(host=self.headers["Host"].partition(":")[0], path=self.path, body=body)
        answer = b"ok" if "slack" in self.headers["Host"] else b'{"status": "success"}'
        self.send_response(202 if "pagerduty" in self.headers["Host"] else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_):
        pass

class Mail:
    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        write(host="mail", to=envelope.rcpt_tos, subject=mail["Subject"], tls=bool(session.ssl),
              body=mail.get_content())
        return "250 OK"

tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain("/etc/receiver/tls.crt", "/etc/receiver/tls.key")
mail = Controller(Mail(), hostname="0.0.0.0", port=8025, tls_context=tls, require_starttls=True)
mail.start()
web = http.server.ThreadingHTTPServer(("0.0.0.0", 8443), Web)
web.socket = tls.wrap_socket(web.socket, server_side=True)
write(host="", ready=True)
web.serve_forever()
"""


class Receivers:
    """The pod that receives messages, and logs them."""

    def __init__(self, kubectl: Kubectl, authority: Authority) -> None:
        self._kubectl = kubectl
        self._core = kubernetes_client.CoreV1Api(kubectl.api())
        self._corefile = self._read_corefile()
        self.authority = authority

    def resolve_names(self) -> None:
        """Let the cluster's DNS resolve the names of the services to the pod."""
        rewrites = "".join(f"    rewrite name {name} {_RECEIVER}\n" for name in _EXTERNAL_HOSTS)
        self._write_corefile(self._corefile.replace(".:53 {\n", f".:53 {{\n{rewrites}"))

    def restore_names(self) -> None:
        """Restore the cluster's DNS. This takes effect when its new pods are ready."""
        self._write_corefile(self._corefile)

    def received(self) -> list[dict[str, Any]]:
        """Return all messages so far, oldest first: host, path and body, or the parts of a mail."""
        log = self._kubectl(f"--namespace={NAMESPACE}", "logs", "receiver")
        return [line for line in map(json.loads, log.splitlines()) if line["host"]]

    def wait_until_ready(self) -> None:
        """Wait until the pod is ready and the cluster's DNS resolves the names to it."""
        here = f"--namespace={NAMESPACE}"
        self._kubectl(here, "wait", "pod/receiver", "--for=condition=Ready", "--timeout=120s")
        self.wait_for_dns()

    def wait_for_dns(self) -> None:
        """Wait until all pods of the cluster's DNS have read its configuration."""
        status = ("rollout", "status", "deployment/coredns", "--timeout=120s")
        self._kubectl("--namespace=kube-system", *status)

    def _read_corefile(self) -> str:
        return str(self._core.read_namespaced_config_map("coredns", "kube-system").data["Corefile"])

    def _write_corefile(self, content: str) -> None:
        if content == self._read_corefile():
            return
        data = {"data": {"Corefile": content}}
        self._core.patch_namespaced_config_map("coredns", "kube-system", data)
        self._kubectl("--namespace=kube-system", "rollout", "restart", "deployment/coredns")


@contextmanager
def receivers(kubectl: Kubectl, image: str) -> Iterator[Receivers]:
    """Start the receivers with `image`, which contains Python, and resolve the names to them."""
    authority = Authority("alerts of a test")
    certificate, key = authority.issue(*_EXTERNAL_HOSTS, _RECEIVER)
    files = {
        "receiver.py": _SCRIPT.encode(),
        "aiosmtpd.zip": _packed("aiosmtpd", "public"),
        "tls.crt": certificate,
        "tls.key": key,
    }
    container = {
        "image": image,
        "command": ["python", "/etc/receiver/receiver.py"],
        "ports": [{"containerPort": 8443}, {"containerPort": 8025}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [{"name": "files", "mountPath": "/etc/receiver"}],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    }
    pod = restricted_pod("receiver", NAMESPACE, container)
    pod["metadata"]["labels"] = {"app": "receiver"}
    pod["spec"]["volumes"] = [{"name": "files", "secret": {"secretName": "receiver"}}]
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "receiver", "namespace": NAMESPACE},
            "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "receiver", "namespace": NAMESPACE},
            "spec": {
                "selector": {"app": "receiver"},
                "ports": [
                    {"name": "https", "port": 443, "targetPort": 8443},
                    {"name": "smtp", "port": 25, "targetPort": 8025},
                ],
            },
        },
        pod,
    ]
    kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    made = Receivers(kubectl, authority)
    try:
        made.resolve_names()
        yield made
    finally:
        made.restore_names()
        made.wait_for_dns()
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _packed(*packages: str) -> bytes:
    """Return pure Python packages of this environment as a zip file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in packages:
            spec = find_spec(package)
            assert spec is not None
            assert spec.origin is not None
            folder = Path(spec.origin).parent
            for path in folder.rglob("*.py"):
                if "tests" not in path.parts:
                    archive.write(path, Path(package) / path.relative_to(folder))
    return packed.getvalue()
