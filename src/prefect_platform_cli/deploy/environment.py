"""Deploy staging or production to a cluster of your own, exactly as their files declare them."""

from pathlib import Path

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.argocd.ownership import refuse_argocd
from prefect_platform_cli.deploy.releases import Release, install, render
from prefect_platform_cli.deploy.required_secrets import refuse_missing
from prefect_platform_cli.doctor.enforcement import enforcement_check
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.environment import Images, images_file, read
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.clients import ensure_clients
from prefect_platform_cli.kube.kubectl import Kubectl
from prefect_platform_cli.kube.workloads import wait_until_ready

_READY_WITHIN = 600  # seconds; the nodes pull the images first


def deploy_environment(kubectl: Kubectl, images_yaml: Path, *, accept_unenforced: bool) -> bool:
    """Install the environment with this images.yaml; False when nothing had to be changed.

    Raises PlatformError for values that a chart refuses and for images without a digest before
    anything is changed, and for missing Secrets before anything is installed. The next call
    continues from there.
    """
    images = _images(images_yaml)
    ensure_clients(["kubectl", "helm"])
    api = kubectl.api()
    refuse_argocd(api)
    releases = _releases(images_yaml.parent)
    manifests = {release.namespace: render(release) for release in releases}
    with step("Create namespaces"):
        changed = kubectl.apply((images_yaml.parent / "namespaces.yaml").read_text())
    with step("Check that the Secrets exist"):
        refuse_missing(api, manifests)
    platform = f"{images.registry}/platform@{images.digests['platform']}"
    with enforcement_check(
        kubectl, platform, accept_unenforced=accept_unenforced
    ) as require_enforcement:
        require_enforcement()
    for release in releases:
        with step(f"Install {release.name}"):
            changed |= install(kubectl, release)
        with step(f"Wait for {release.name}"):
            selector = names.selector(instance=release.name)
            wait_until_ready(api, release.namespace, selector, within=_READY_WITHIN)
    return changed


def environment_file(name: str) -> Path:
    """Return the images.yaml of an environment; raises PlatformError if it names no images."""
    file = images_file(name)
    _images(file)
    return file


def _images(file: Path) -> Images:
    images = read(file)
    if "platform" not in images.digests:
        raise PlatformError(
            f"{file} names no images",
            next_step=f"make push REGISTRY=HOST/PATH ENVIRONMENT={file.parent.name}",
        )
    return images


def _releases(folder: Path) -> tuple[Release, Release]:
    """Return the releases of an environment; the worker needs the server."""
    shared = [folder / "retention.yaml", folder / "images.yaml"]
    return (
        Release(
            name=names.SERVER_RELEASE,
            namespace=names.SERVER_NAMESPACE,
            chart=REPOSITORY / "helm" / "prefect-server",
            values=[folder / "server.yaml", *shared],
        ),
        Release(
            name=names.WORKER_RELEASE,
            namespace=names.WORKER_NAMESPACE,
            chart=REPOSITORY / "helm" / "prefect-worker",
            values=[folder / "worker.yaml", *shared],
            contents={"configuration.platform": folder / "platform.yaml"},
        ),
    )
