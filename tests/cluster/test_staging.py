"""The files of staging install the platform, from the images of a registry, in an empty cluster."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from kubernetes import client as kubernetes_client
from ruamel.yaml import YAML

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import command, deploy_code, final, put_secret
from tests.cluster.node_registry import node_registry

# A second cluster takes minutes on two cores.
pytestmark = [pytest.mark.whole, pytest.mark.timeout(1800)]

_NAME = "platform-test-staging"
_SECRETS = {
    names.AUTH_SECRET: {"auth-string": "admin:sesame"},
    names.DATABASE_SECRET: {"password": "sesame"},
    names.ENCRYPTION_SECRET: {"key": Fernet.generate_key().decode()},
    names.REDIS_SECRET: {"password": "sesame"},
}
# The bucket of results is an example, so this flow stores none.
_CODE = """
from prefect import flow

@flow(persist_result=False)
def greet():
    return "hello"
"""
# By default, the parts reserve more than the two cores that the node of a small machine has.
_PARTS = {
    "server.yaml": (["api"], ["backgroundServices"], ["database", "embedded"]),
    "worker.yaml": (["worker"], ["configuration"]),
}


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository, from which staging is deployed to an existing cluster."""

    folder: Path
    registry: str
    kubectl: Kubectl

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command line tool of the copy as a user does."""
        return subprocess.run(
            [
                *(sys.executable, "-c", "from prefect_platform_cli.main import main; main()"),
                *arguments,
            ],
            env={
                **{k: v for k, v in os.environ.items() if k != "DOCKER_HOST"},
                "PYTHONPATH": str(self.folder / "src"),
                "CLUSTER_NAME": _NAME,
                "KUBECONFIG": str(self.kubectl.kubeconfig),
                "COLUMNS": "200",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def deploy(self) -> subprocess.CompletedProcess[str]:
        """Deploy staging."""
        return self.command(
            "deploy", ENVIRONMENT="staging", CLUSTER="current", CONTEXT=f"kind-{_NAME}"
        )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Create an empty cluster and a registry, and copy the repository."""
    folder = tmp_path_factory.mktemp("repository") / "copy"
    git(REPOSITORY, "clone", "--quiet", str(REPOSITORY), str(folder))
    _reserve_less(folder / "k8s/environments/staging")
    command("destroy", CLUSTER_NAME=_NAME)
    provider = KindProvider(_NAME)
    try:
        provider.create()
        kubectl = Kubectl(provider.kubeconfig())
        with node_registry(_NAME, kubectl) as registry:
            yield Checkout(folder, f"{registry}/platform", kubectl)
    finally:
        command("destroy", CLUSTER_NAME=_NAME)


def _reserve_less(environment: Path) -> None:
    yaml = YAML()
    for file, parts in _PARTS.items():
        values = yaml.load(environment / file)
        for keys in parts:
            part = values
            for key in keys:
                part = part.setdefault(key, {})
            part["resources"] = {"requests": {"cpu": "50m"}}
        yaml.dump(values, environment / file)


def test_pushed_images_and_the_declared_secrets_are_all_that_it_needs(checkout: Checkout) -> None:
    unpushed = checkout.deploy()
    pushed = checkout.command(
        "push", REGISTRY=checkout.registry, ENVIRONMENT="staging", UNCOMMITTED="accept"
    )
    assert pushed.returncode == 0, pushed.stderr
    without_secrets = checkout.deploy()
    for name, content in _SECRETS.items():
        put_secret(checkout.kubectl, names.SERVER_NAMESPACE, name, content)
    deployed = checkout.deploy()

    assert "images.yaml names no images" in unpushed.stderr
    assert "lacks the Secrets" in without_secrets.stderr
    assert all(f"{names.SERVER_NAMESPACE}/{name}" in without_secrets.stderr for name in _SECRETS)
    assert deployed.returncode == 0, deployed.stderr
    assert "The environment staging is deployed" in deployed.stdout


def test_a_second_call_changes_nothing(checkout: Checkout) -> None:
    again = checkout.deploy()

    assert "Nothing changed" in again.stdout, again.stderr


def test_every_pod_runs_an_image_of_the_registry_by_digest(checkout: Checkout) -> None:
    core = kubernetes_client.CoreV1Api(checkout.kubectl.api())
    images = {
        container.image
        for namespace in (names.SERVER_NAMESPACE, names.WORKER_NAMESPACE)
        for pod in core.list_namespaced_pod(namespace).items
        for container in pod.spec.containers
    }

    assert images
    assert all(each.startswith(f"{checkout.registry}/") and "@sha256:" in each for each in images)


def test_a_run_completes_in_a_job_pod(checkout: Checkout) -> None:
    with connected(checkout.kubectl) as prefect:
        deployment = deploy_code(prefect, name="greet", code=_CODE)
        run = final(prefect, prefect.create_flow_run_from_deployment(deployment))

    assert run.state_name == "Completed"
