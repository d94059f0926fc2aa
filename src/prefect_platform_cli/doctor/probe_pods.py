"""Pods that stand in for others: they have the same namespace and labels, and do no work."""

import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client

from prefect_platform.polling import wait_until
from prefect_platform_cli.doctor import attempts
from prefect_platform_cli.kube.kubectl import Kubectl

PORT = 8080  # every probe pod listens on it
_LABEL = "prefect-platform/probe"
_GATE = "prefect-platform/serves"
_LIFETIME = 600  # seconds after which Kubernetes ends a pod that was left behind
_RUNS_WITHIN = 90  # seconds
_NOT_FOUND = 404


class ProbePod:
    """A pod that listens, and tries to connect to addresses on request.

    `problem` says why it is not running. If it is running, `address` is its IP address.
    """

    def __init__(self, kubectl: Kubectl, core: client.CoreV1Api, manifest: dict[str, Any]) -> None:
        self._kubectl, self._core, self._manifest = kubectl, core, manifest
        self._name: str = manifest["metadata"]["name"]
        self._namespace: str = manifest["metadata"]["namespace"]
        self.address = self.problem = ""

    def create(self) -> None:
        """Create the pod, or record why the cluster refuses it."""
        try:
            self._core.create_namespaced_pod(self._namespace, self._manifest)
        except client.ApiException as error:
            self.problem = f"a pod in {self._namespace} is refused: {_message(error)}"

    def wait(self) -> None:
        """Wait until the kubelet reaches the pod's port, or record why it does not."""
        if self.problem:
            return

        def read() -> client.V1Pod:
            return self._core.read_namespaced_pod(self._name, self._namespace)

        if not wait_until(lambda: _serves(read()), _RUNS_WITHIN, every=0.5):
            pod = read()
            waiting = [
                status.state.waiting.reason
                for status in pod.status.container_statuses or []
                if status.state.waiting
            ]
            self.problem = (
                f"a pod in {self._namespace} is not running after {_RUNS_WITHIN} s: "
                f"{', '.join(waiting) or pod.status.phase}"
            )
        else:
            self.address = read().status.pod_ip

    def attempt(self, addresses: Collection[tuple[str, int]]) -> list[str]:
        """Try pairs of host and port from the pod; return each outcome."""
        printed = self._kubectl(
            *(f"--namespace={self._namespace}", "exec", "--stdin", self._name),
            *("--", "python", "-", json.dumps(list(addresses))),
            stdin=Path(attempts.__file__).read_text(),
        )
        outcomes: list[str] = json.loads(printed)
        return outcomes


class ProbePods:
    """The probe pods of one check of a cluster."""

    def __init__(self, kubectl: Kubectl, purpose: str) -> None:
        self._kubectl, self._purpose = kubectl, purpose
        self._core = client.CoreV1Api(kubectl.api())

    def start(
        self,
        namespace: str,
        image: str,
        labels: Mapping[str, str],
        pull_secrets: Collection[Mapping[str, str]] = (),
        priority_class: str = "",
    ) -> ProbePod:
        """Start a pod with `labels` in addition to those of all probe pods, and return it."""
        manifest = _manifest(
            namespace, image, {**labels, _LABEL: self._purpose}, list(pull_secrets), priority_class
        )
        pod = ProbePod(self._kubectl, self._core, manifest)
        pod.create()
        return pod

    def remove(self) -> None:
        """Delete these pods, and failed ones that an earlier check left behind."""
        for pod in self._core.list_pod_for_all_namespaces(label_selector=_LABEL).items:
            if pod.metadata.labels[_LABEL] != self._purpose and pod.status.phase != "Failed":
                continue
            try:
                self._core.delete_namespaced_pod(
                    pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0
                )
            except client.ApiException as error:
                if error.status != _NOT_FOUND:
                    raise


@contextmanager
def probe_pods(kubectl: Kubectl, purpose: str) -> Iterator[ProbePods]:
    """Yield an object that starts probe pods, and delete them at the end, even after an error."""
    pods = ProbePods(kubectl, f"{purpose}-{uuid.uuid4().hex[:8]}")
    try:
        yield pods
    finally:
        pods.remove()


def _manifest(
    namespace: str,
    image: str,
    labels: Mapping[str, str],
    pull_secrets: list[Mapping[str, str]],
    priority_class: str,
) -> dict[str, Any]:
    """Return a pod that meets Pod Security "restricted" and that is never ready.

    Its readiness gate stays closed, so a Service that selects its labels sends it no traffic.
    """
    container = {
        "name": "probe",
        "image": image,
        "command": ["python", "-m", "http.server", str(PORT), "--directory=/tmp"],
        # If no DNS server answers, the lookup of a name fails within seconds.
        "env": [{"name": "RES_OPTIONS", "value": "timeout:1 attempts:2"}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "128Mi"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"probe-{uuid.uuid4().hex[:8]}",
            "namespace": namespace,
            "labels": dict(labels),
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _LIFETIME,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": pull_secrets,
            "priorityClassName": priority_class,  # if empty, the cluster's default
            "readinessGates": [{"conditionType": _GATE}],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }


def _serves(pod: client.V1Pod) -> bool:
    conditions = pod.status.conditions or []
    return any(each.type == "ContainersReady" and each.status == "True" for each in conditions)


def _message(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
