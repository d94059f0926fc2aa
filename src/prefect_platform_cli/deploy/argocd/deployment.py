"""Deploy the platform to the local cluster with Argo CD, up to its first flow run."""

import datetime as dt
from collections.abc import Sequence

from prefect_platform.console import step
from prefect_platform_cli.cluster.provider import ClusterProvider
from prefect_platform_cli.deploy.argocd.applications import wait_until_deployed
from prefect_platform_cli.deploy.argocd.installation import install_argocd
from prefect_platform_cli.deploy.argocd.names import NAMESPACE, REPOSITORY_URL, ROOT
from prefect_platform_cli.deploy.argocd.ownership import refuse_releases
from prefect_platform_cli.deploy.argocd.repository import push, snapshot
from prefect_platform_cli.deploy.platform import (
    ENVIRONMENT,
    Outcome,
    apply_data,
    has_run_identity,
    load,
    prepare,
    run_first,
    server_release,
    wait_for_data,
    worker_release,
)
from prefect_platform_cli.deploy.releases import Release, install
from prefect_platform_cli.deploy.secrets import copy_secrets
from prefect_platform_cli.doctor.enforcement import enforcement_check
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.build import Image
from prefect_platform_cli.kube.clients import ensure_clients
from prefect_platform_cli.kube.kubectl import Kubectl

_DEPLOYED_WITHIN = 900  # seconds; the server and the worker may each take 300

_ROOT = Release(
    name=ROOT,
    namespace=NAMESPACE,
    chart=REPOSITORY / "k8s" / "argocd" / "root",
    values=[ENVIRONMENT / "argocd.yaml"],
    settings={"repository": {"url": REPOSITORY_URL, "revision": "main"}},
)


def deploy(
    provider: ClusterProvider, images: Sequence[Image], day: dt.date, *, accept_unenforced: bool
) -> Outcome:
    """Let Argo CD deploy the commit that is checked out, to a running cluster, and run the ETL.

    Refuses a cluster of `make deploy-cluster`. The data services and the Secrets are created as
    that command does, because Argo CD does not deploy them. A step whose result is already in place
    changes nothing. Raises PlatformError for the first step that fails.
    """
    ensure_clients(["kubectl", "helm"])
    kubectl = Kubectl(provider.kubeconfig())
    refuse_releases(kubectl)
    api = kubectl.api()
    references = {image.name: image.reference for image in images}
    changed = load(provider, images)
    changed |= prepare(kubectl, images)
    with enforcement_check(
        kubectl, references["platform"], accept_unenforced=accept_unenforced
    ) as require_enforcement:
        with step("Install the object store and the warehouse, and copy the secrets"):
            changed |= apply_data(kubectl, references)
            changed |= bool(copy_secrets(api, run_identity=has_run_identity()))
        with step("Install Argo CD"):
            changed |= install_argocd(kubectl, references)
        require_enforcement()  # before Argo CD deploys a worker, which starts runs
    settings = {
        "server.yaml": server_release(references, api).settings,
        "worker.yaml": worker_release(references, api).settings,
    }
    with snapshot(REPOSITORY, settings) as clone:
        commit = git(clone, "rev-parse", "HEAD")
        with step(f"Push {git(clone, 'log', '-1', '--format=%h of %p')} to the cluster"):
            changed |= push(kubectl, clone)
    with step("Create the projects and the root Application"):
        changed |= install(kubectl, _ROOT)
    with step("Wait until every Application is Synced and Healthy"):
        wait_until_deployed(kubectl, commit, within=_DEPLOYED_WITHIN)
        wait_for_data(api)
    return run_first(kubectl, day, changed=changed)
