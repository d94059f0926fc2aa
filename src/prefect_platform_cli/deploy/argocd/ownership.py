"""Refuse what Argo CD deploys: two owners would undo each other's changes."""

from kubernetes import client

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.argocd.names import RELEASES
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


def forget_releases(kubectl: Kubectl) -> None:
    """Delete Helm's records of the server and the worker, whose objects Argo CD has adopted."""
    for namespace, release in RELEASES.items():
        records = f"--selector=owner=helm,name={release}"
        kubectl(f"--namespace={namespace}", "delete", "secret", records)
