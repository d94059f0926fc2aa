"""Refuse what the other deploys, Argo CD or Helm: two owners would undo each other's changes."""

from kubernetes import client

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.argocd.names import RELEASES
from prefect_platform_cli.deploy.releases import installed
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl

_TRACKING = "argocd.argoproj.io/tracking-id"  # APPLICATION:GROUP/KIND:NAMESPACE/NAME


def refuse_argocd(api: client.ApiClient) -> None:
    """Raise PlatformError when an Application of Argo CD deploys the server or the worker."""
    apps = client.AppsV1Api(api)
    for namespace, release in RELEASES.items():
        selector = names.selector(instance=release)
        for found in apps.list_namespaced_deployment(namespace, label_selector=selector).items:
            tracked = (found.metadata.annotations or {}).get(_TRACKING)
            if tracked is not None:
                raise PlatformError(
                    f"the Deployment {namespace}/{found.metadata.name} belongs to Argo CD's "
                    f"Application {tracked.partition(':')[0]}, which would undo what this command "
                    "changes",
                    next_step="change the environment's files in Git, as docs/operations/argocd.md "
                    "describes",
                )


def refuse_releases(kubectl: Kubectl) -> None:
    """Raise PlatformError when Helm has installed the server or the worker."""
    for found in installed(kubectl):
        if RELEASES.get(found["namespace"]) == found["name"]:
            raise PlatformError(
                f"the release {found['namespace']}/{found['name']} belongs to make deploy-cluster, "
                "and Argo CD would undo what that command changes",
                next_step="make destroy-cluster, then run the command again, or choose another "
                "CLUSTER_NAME",
            )
