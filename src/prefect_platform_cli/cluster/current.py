"""An existing cluster, reached through a named context of the user's kubeconfig."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from urllib3.exceptions import HTTPError

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.api import asking_once
from prefect_platform_cli.cluster.engine.engine import checked_cluster_name
from prefect_platform_cli.cluster.image_store import ImageStore
from prefect_platform_cli.cluster.provider import ClusterStatus
from prefect_platform_cli.host.paths import state_directory

_DEFAULT = "~/.kube/config"
_FILES = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}


class CurrentProvider:
    """The cluster of `context`, which this provider neither creates nor removes."""

    name = "current"

    def __init__(self, cluster: str, context: str | None) -> None:
        self._source = Path(os.environ.get("KUBECONFIG") or _DEFAULT).expanduser()
        contexts = _contexts(self._source)
        if not context:
            raise PlatformError(
                f"CLUSTER=current needs the name of a context of {self._source}, so that no other "
                f"cluster is changed by mistake; it has {', '.join(contexts) or 'none'}",
                next_step="make deploy-cluster CLUSTER=current CONTEXT=NAME",
            )
        if context not in contexts:
            raise PlatformError(
                f"{self._source} has no context {context}; it has {', '.join(contexts) or 'none'}",
                next_step="kubectl config get-contexts",
            )
        self._context = context
        self._kubeconfig = (
            state_directory(checked_cluster_name(cluster)) / f"current-{context.replace('/', '_')}"
        )

    def create(self) -> bool:
        """Check that the cluster answers; change nothing."""
        status = self.status()
        if not status.running:
            raise PlatformError(
                f"the cluster of the context {self._context} does not answer: "
                f"{dict(status.facts)['api']}",
                next_step=f"kubectl --context {self._context} version",
            )
        return False

    def delete(self) -> None:
        """Raise PlatformError: the provider does not delete a cluster that it did not create."""
        raise PlatformError(
            f"the cluster of the context {self._context} was not created by this command, which "
            "therefore does not delete it",
            next_step=f"uninstall the platform: helm --kube-context {self._context} uninstall "
            "prefect-worker --namespace prefect-workers, then "
            f"helm --kube-context {self._context} uninstall prefect-server --namespace prefect, "
            f"then kubectl --context {self._context} delete namespace prefect prefect-workers "
            "flows-default data",
        )

    def load_images(self, archive: Path, references: Sequence[str]) -> bool:
        """Check that every node holds `references`: this provider cannot load images."""
        nodes = client.CoreV1Api(self._api()).list_node().items
        for node in nodes:
            held = {name for image in node.status.images or [] for name in image.names or []}
            for reference in references:
                if reference not in held:
                    raise PlatformError(
                        f"the node {node.metadata.name} does not have the image {reference}",
                        next_step="add REGISTRY=HOST/PATH, so that the nodes pull the images from "
                        f"a registry; or copy {archive} to every node and run `ctr --namespace "
                        "k8s.io images import FILE` there, then run the command again",
                    )
        return False

    def image_stores(self) -> Sequence[ImageStore]:
        """Raise PlatformError: the nodes take their images from a registry."""
        raise PlatformError(
            f"the nodes of the context {self._context} cannot be reached, so an edited flow cannot "
            "be brought to them without a registry",
            next_step=f"make deploy-cluster CLUSTER=current CONTEXT={self._context} "
            "REGISTRY=HOST/PATH, or run the flow on a kind cluster: leave CLUSTER out",
        )

    def kubeconfig(self) -> Path:
        """Return a copy of the user's kubeconfig whose current context is the named one."""
        content = _read(self._source)
        content["current-context"] = self._context
        for entry in [*(content.get("clusters") or []), *(content.get("users") or [])]:
            named = entry.get("cluster") or entry.get("user") or {}
            for field in _FILES & named.keys():
                # A relative path is relative to its kubeconfig file. Joining keeps absolute paths.
                named[field] = str(self._source.parent.absolute() / named[field])
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        self._kubeconfig.touch(mode=0o600)
        with self._kubeconfig.open("w") as stream:
            YAML().dump(content, stream)
        return self._kubeconfig

    def environment(self) -> dict[str, str]:
        """Return the user's own KUBECONFIG; kubectl also needs `--context`."""
        return {"KUBECONFIG": str(self._source)}

    def status(self) -> ClusterStatus:
        """Return whether the API answers, and its version."""
        facts = [("cluster", f"context {self._context} of {self._source}")]
        try:
            version = client.VersionApi(self._api()).get_code(_request_timeout=10)
        except (ApiException, HTTPError, ConfigException) as error:
            return ClusterStatus(
                running=False, facts=[*facts, ("api", " ".join(str(error).split()))]
            )
        return ClusterStatus(running=True, facts=[*facts, ("api", version.git_version)])

    def _api(self) -> client.ApiClient:
        return asking_once(self._source, self._context)


def _contexts(kubeconfig: Path) -> list[str]:
    if not kubeconfig.exists():
        raise PlatformError(
            f"CLUSTER=current needs a kubeconfig, but {kubeconfig} does not exist",
            next_step="set KUBECONFIG to an existing file, or leave CLUSTER out to create a kind "
            "cluster",
        )
    return [entry["name"] for entry in _read(kubeconfig).get("contexts") or []]


def _read(kubeconfig: Path) -> dict[str, Any]:
    try:
        content = YAML(typ="safe").load(kubeconfig)
    except YAMLError as error:
        raise PlatformError(
            f"{kubeconfig} is not a kubeconfig: {error}", next_step="kubectl config view"
        ) from error
    return content if isinstance(content, dict) else {}
