"""Names of Argo CD's objects on the local cluster."""

from prefect_platform_cli.kube import names

NAMESPACE = "argocd"
ROOT = "prefect-platform-local"
"""The root Application, and the Helm release that installs it with the projects."""
REPOSITORY_URL = f"git://repository.{NAMESPACE}.svc.cluster.local/platform.git"
RELEASES = {
    names.SERVER_NAMESPACE: names.SERVER_RELEASE,
    names.WORKER_NAMESPACE: names.WORKER_RELEASE,
}
