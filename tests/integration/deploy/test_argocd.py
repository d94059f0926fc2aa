"""`make deploy-cluster` leaves alone what Argo CD deploys, and Argo CD takes over from Helm."""

from collections.abc import Iterator

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.argocd.ownership import forget_releases, refuse_argocd
from prefect_platform_cli.kube.kubectl import Kubectl
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


@pytest.mark.parametrize(("namespace", "release"), [SERVER, WORKER])
def test_the_records_of_helm_are_deleted_and_no_other_secrets(
    kubectl: Kubectl, namespace: str, release: str
) -> None:
    here = f"--namespace={namespace}"
    for name, owner in (("record", release), ("of-another-release", "other")):
        kubectl(here, "create", "secret", "generic", name)
        kubectl(here, "label", "secret", name, "owner=helm", f"name={owner}")

    forget_releases(kubectl)

    left = kubectl(here, "get", "secrets", "--output=name").split()
    assert left == ["secret/of-another-release"]
