"""`make deploy-cluster` and `make deploy-argocd` leave alone what the other deploys."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.argocd.ownership import refuse_argocd, refuse_releases
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import helm
from tests.support.control_plane import control_plane

SERVER, WORKER = ("prefect", "prefect-server"), ("prefect-workers", "prefect-worker")


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Start an API server with a Deployment of each release, as Helm installs them."""
    with control_plane(tmp_path_factory.mktemp("kubernetes"), "https://issuer") as kubectl:
        for namespace, release in (SERVER, WORKER):
            kubectl("create", "namespace", namespace)
            here = f"--namespace={namespace}"
            kubectl(here, "create", "deployment", release, "--image=example.org/a:1")
            label = f"app.kubernetes.io/instance={release}"
            kubectl(here, "label", "deployment", release, label)
        yield kubectl


def test_releases_of_helm_are_not_refused(kubectl: Kubectl) -> None:
    refuse_argocd(kubectl.api())


@pytest.mark.parametrize(("namespace", "release"), [SERVER, WORKER])
def test_a_release_of_argo_cd_is_refused_with_the_name_of_its_application(
    kubectl: Kubectl, namespace: str, release: str
) -> None:
    annotation = "argocd.argoproj.io/tracking-id"
    annotate = (f"--namespace={namespace}", "annotate", "deployment", release)
    kubectl(*annotate, f"{annotation}=ours:apps/Deployment:{namespace}/{release}")

    with pytest.raises(PlatformError) as refused:
        refuse_argocd(kubectl.api())
    kubectl(*annotate, f"{annotation}-")

    assert f"{namespace}/{release} belongs to Argo CD's Application ours" in refused.value.message
    assert "docs/operations/argocd.md" in refused.value.next_step


def test_without_releases_of_helm_argo_cd_may_deploy(kubectl: Kubectl) -> None:
    refuse_releases(kubectl)


@pytest.mark.parametrize(("namespace", "release"), [SERVER, WORKER])
def test_a_release_of_helm_is_refused_by_name(
    kubectl: Kubectl, tmp_path: Path, namespace: str, release: str
) -> None:
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: test, version: 0.1.0}\n")
    helm(kubectl, namespace, "install", release, str(tmp_path), wait=False)

    with pytest.raises(PlatformError) as refused:
        refuse_releases(kubectl)
    helm(kubectl, namespace, "uninstall", release, wait=False)

    assert f"{namespace}/{release} belongs to make deploy-cluster" in refused.value.message
