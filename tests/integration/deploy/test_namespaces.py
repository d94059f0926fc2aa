"""The namespaces of an environment admit every pod of both charts, and refuse a privileged one.

A real API server enforces Pod Security.
"""

import json
from collections.abc import Iterator
from copy import deepcopy

import pytest
import yaml

from prefect_platform.errors import PlatformError
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.render.components import pod_owners, pods_of
from tests.support.control_plane import control_plane
from tests.support.rendering import ENVIRONMENTS, STORIES, Object, objects

each_environment = pytest.mark.parametrize("environment", ["staging", "production"])


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Start an API server."""
    with control_plane(tmp_path_factory.mktemp("kubernetes"), "https://issuer") as kubectl:
        yield kubectl


def apply(kubectl: Kubectl, environment: str) -> None:
    """Create the namespaces of an environment: first its own, then those of the worker's chart."""
    own = ENVIRONMENTS / environment / "namespaces.yaml"
    kubectl("apply", "--server-side", f"--filename={own}")
    kubectl.apply(
        yaml.safe_dump_all(
            item
            for item in objects(STORIES[f"worker-{environment}"])
            if item["kind"] in {"Namespace", "PriorityClass"}
        )
    )


def pods(environment: str) -> list[Object]:
    """Return the pods of both charts in an environment, with one job pod for each work pool."""
    found = []
    for component in ("server", "worker"):
        for owner in pod_owners(STORIES[f"{component}-{environment}"]):
            spec = deepcopy(pods_of(owner)["spec"])
            for claim in owner["spec"].get("volumeClaimTemplates", []):
                name = claim["metadata"]["name"]
                volume = {"name": name, "persistentVolumeClaim": {"claimName": name}}
                spec.setdefault("volumes", []).append(volume)
            metadata = {"generateName": "pod-", "namespace": owner["metadata"]["namespace"]}
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return found


def refusal(kubectl: Kubectl, pod: Object) -> str:
    """Return the message with which the API server refuses a pod, empty if it accepts it."""
    # It ignores the two fields of a job pod that only the worker reads.
    create = ("create", "--dry-run=server", "--validate=false", "--filename=-")
    try:
        kubectl(*create, stdin=json.dumps(pod))
    except PlatformError as error:
        return str(error)
    return ""


@each_environment
def test_every_pod_of_the_charts_is_admitted(kubectl: Kubectl, environment: str) -> None:
    apply(kubectl, environment)

    assert {refusal(kubectl, pod) for pod in pods(environment)} == {""}


@each_environment
def test_a_pod_on_the_network_of_its_node_is_refused(kubectl: Kubectl, environment: str) -> None:
    apply(kubectl, environment)
    by_namespace = {pod["metadata"]["namespace"]: pod for pod in pods(environment)}

    assert {"prefect", "prefect-workers", "flows-default"} <= by_namespace.keys()
    for pod in by_namespace.values():
        pod["spec"]["hostNetwork"] = True
        assert 'violates PodSecurity "restricted:latest": host namespaces' in refusal(kubectl, pod)
