"""Nodes pull the images that a deploy has pushed to a registry."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine.detection import recorded_engine
from prefect_platform_cli.deploy.environment import deploy_environment
from prefect_platform_cli.deploy.releases import installed
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.images.environment import Images, write
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import CLUSTER, Platform, command, run_etl
from tests.support.rendering import ENVIRONMENTS
from tests.support.servers import free_ports

pytestmark = [pytest.mark.whole, pytest.mark.timeout(1800)]  # rolls out the platform twice

_NAME = "registry-of-tests"
_PROGRAM = f"/opt/{_NAME}"  # on the node


@pytest.fixture(scope="module")
def registry(platform: Platform) -> Iterator[str]:
    """Run a registry at the same address of this machine and of the node; yield host and port."""
    kubectl = platform.kubectl
    (port,) = free_ports(1)
    _copy_program_to_node()
    python = next(iter(_images(kubectl, names.WORKER_NAMESPACE)))
    kubectl("create", "namespace", _NAME)
    try:
        kubectl.apply(
            json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects(python, port)})
        )
        here = f"--namespace={_NAME}"
        kubectl(here, "wait", f"pod/{_NAME}", "--for=condition=Ready", "--timeout=120s")
        with kubectl.port_forward(f"pod/{_NAME}", port, namespace=_NAME, local_port=port):
            yield f"127.0.0.1:{port}"
            restored = command("deploy")
            assert restored.returncode == 0, restored.stderr
    finally:
        kubectl("delete", "namespace", _NAME, "--wait=false")


def _copy_program_to_node() -> None:
    engine = recorded_engine(CLUSTER)
    assert engine is not None
    run(
        [engine.docker, "cp", tool("registry"), f"{CLUSTER}-control-plane:{_PROGRAM}"],
        failure="the registry cannot be copied to the node",
        next_step="look at the events of the report",
        env=engine.environment(),
    )


def _objects(image: str, port: int) -> list[dict[str, object]]:
    configuration = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/images"}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    container = {
        "name": _NAME,
        "image": image,
        "command": ["/registry", "serve", "/etc/registry/configuration.yml"],
        "readinessProbe": {
            "httpGet": {"host": "127.0.0.1", "port": port, "path": "/v2/"},
            "periodSeconds": 1,
        },
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [
            {"name": "program", "mountPath": "/registry"},
            {"name": "configuration", "mountPath": "/etc/registry"},
            {"name": "images", "mountPath": "/images"},
        ],
    }
    volumes = [
        {"name": "program", "hostPath": {"path": _PROGRAM, "type": "File"}},
        {"name": "configuration", "configMap": {"name": _NAME}},
        {"name": "images", "emptyDir": {}},
    ]
    metadata = {"name": _NAME, "namespace": _NAME}
    return [
        {
            **{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata},
            "data": {"configuration.yml": json.dumps(configuration)},
        },
        {
            **{"apiVersion": "v1", "kind": "Pod", "metadata": metadata},
            "spec": {"hostNetwork": True, "containers": [container], "volumes": volumes},
        },
    ]


def _images(kubectl: Kubectl, *namespaces: str) -> set[str]:
    """Return the images of all containers that run in the namespaces."""
    core = kubernetes_client.CoreV1Api(kubectl.api())
    return {
        container.image
        for namespace in namespaces
        for pod in core.list_namespaced_pod(namespace, field_selector="status.phase=Running").items
        for container in pod.spec.containers
    }


def test_the_nodes_pull_by_digest_what_a_deploy_has_pushed(
    platform: Platform, prefect: SyncPrefectClient, registry: str
) -> None:
    address = f"{registry}/platform"

    first = command("deploy", REGISTRY=address)
    assert first.returncode == 0, first.stderr
    again = command("deploy", REGISTRY=address)

    assert "Nothing changed" in again.stdout
    assert again.stderr.count("Push ") == 0
    running = _images(platform.kubectl, *names.NAMESPACES)
    assert {image.partition("@")[0] for image in running} == {
        f"{address}/{name}" for name in ("platform", "postgres", "redis", "seaweedfs")
    }
    assert run_etl(prefect, "2013-03-03").state_name == "Completed"
    pods = kubernetes_client.CoreV1Api(platform.kubectl.api()).list_namespaced_pod(
        names.JOB_NAMESPACE
    )
    newest = max(pods.items, key=lambda pod: pod.metadata.creation_timestamp)
    assert newest.spec.containers[0].image.startswith(f"{address}/flows@sha256:")


def test_another_environment_is_refused_without_its_secrets_before_anything_is_installed(
    platform: Platform, registry: str, tmp_path: Path
) -> None:
    folder = tmp_path / "staging"
    shutil.copytree(ENVIRONMENTS / "staging", folder)
    digests = dict.fromkeys(("platform", "flows", "postgres", "redis"), f"sha256:{'0' * 64}")
    write(folder / "images.yaml", Images(f"{registry}/platform", digests))
    kubectl, here = platform.kubectl, f"--namespace={names.SERVER_NAMESPACE}"
    kept = json.loads(kubectl(here, "get", "secret", names.REDIS_SECRET, "--output=json"))
    kept["metadata"] = {"name": names.REDIS_SECRET, "namespace": names.SERVER_NAMESPACE}
    before = installed(kubectl)
    kubectl(here, "delete", "secret", names.REDIS_SECRET)

    with pytest.raises(PlatformError, match="lacks the Secrets prefect/prefect-redis"):
        deploy_environment(kubectl, folder / "images.yaml", accept_unenforced=False)
    kubectl.apply(json.dumps(kept))

    assert installed(kubectl) == before
