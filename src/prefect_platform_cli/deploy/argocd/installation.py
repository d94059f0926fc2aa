"""Install Argo CD without its user interface, from the manifests of its Go module."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from prefect_platform_cli.deploy.argocd.names import NAMESPACE
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import sources
from prefect_platform_cli.images.catalogue import untagged
from prefect_platform_cli.kube import manifests
from prefect_platform_cli.kube.clients import program
from prefect_platform_cli.kube.kubectl import Kubectl
from prefect_platform_cli.kube.workloads import wait_until_ready

_FOLDER = REPOSITORY / "k8s" / "argocd"
_READY_WITHIN = 300  # seconds


def install_argocd(kubectl: Kubectl, references: Mapping[str, str]) -> bool:
    """Apply Argo CD with the images `references`, and wait until it is ready.

    Returns True when that changed anything. Raises PlatformError when it is not ready in time.
    """
    changed = kubectl.apply(definitions())
    changed |= kubectl.apply(render(references))
    wait_until_ready(kubectl.api(), NAMESPACE, "", within=_READY_WITHIN)
    return changed


def render(references: Mapping[str, str]) -> str:
    """Return k8s/argocd/local as one JSON List, with the images and our health checks."""
    with TemporaryDirectory() as folder:
        # A kustomization cannot refer to files outside its folder.
        shutil.copytree(_FOLDER / "local", folder, dirs_exist_ok=True)
        shutil.copytree(_manifests(), Path(folder, "manifests"))
        rendered = json.loads(
            manifests.render(program("kubectl"), Path(folder), untagged(references))
        )
    (settings,) = (item for item in rendered["items"] if item["metadata"]["name"] == "argocd-cm")
    settings["data"] = YAML(typ="safe").load(_FOLDER / "argocd-cm.yaml")["data"]
    return json.dumps(rendered)


def definitions() -> str:
    """Return the CustomResourceDefinitions as they are: they are long, and need no patch."""
    files = [_manifests() / "crds" / f"{kind}-crd.yaml" for kind in ("application", "appproject")]
    return "\n---\n".join(file.read_text() for file in files)


def _manifests() -> Path:
    return sources("argocd") / "manifests"
