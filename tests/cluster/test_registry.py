"""Nodes pull the images that a deploy has pushed to a registry."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.environment import deploy_environment
from prefect_platform_cli.deploy.releases import installed
from prefect_platform_cli.images.environment import Images, write
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import CLUSTER, Platform, command, run_etl
from tests.cluster.node_registry import node_registry
from tests.support.rendering import ENVIRONMENTS

pytestmark = [pytest.mark.whole, pytest.mark.timeout(1800)]  # rolls out the platform twice


@pytest.fixture(scope="module")
def registry(platform: Platform) -> Iterator[str]:
    """Run a registry on the node, and restore the platform's own images at the end."""
    with node_registry(CLUSTER, platform.kubectl) as address:
        yield address
        restored = command("deploy")
        assert restored.returncode == 0, restored.stderr


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
