"""Deploy the platform to a running cluster, up to its first flow run."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from prefect.client.schemas.objects import FlowRun
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.charts.prefect_worker import Auth
from prefect_platform_cli.cluster.provider import ClusterProvider
from prefect_platform_cli.deploy import first_run
from prefect_platform_cli.deploy.argocd.ownership import refuse_argocd
from prefect_platform_cli.deploy.connection import connected, kubernetes_api_addresses
from prefect_platform_cli.deploy.image_bases import record_bases
from prefect_platform_cli.deploy.releases import Release, install
from prefect_platform_cli.deploy.secrets import (
    bootstrap_secrets,
    copy_secrets,
    has_secret,
    secret_version,
)
from prefect_platform_cli.doctor.components import base_job_templates
from prefect_platform_cli.doctor.enforcement import enforcement_check
from prefect_platform_cli.doctor.pools import job_namespaces, refuse_unrestricted
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.build import Image
from prefect_platform_cli.images.catalogue import untagged
from prefect_platform_cli.kube import manifests, names
from prefect_platform_cli.kube.clients import ensure_clients, program
from prefect_platform_cli.kube.kubectl import Kubectl
from prefect_platform_cli.kube.workloads import wait_until_ready

ENVIRONMENT = REPOSITORY / "k8s" / "environments" / "local"
_DATA = names.selector(instance="local")  # the label of the data services' kustomization
_READY_WITHIN = 300  # seconds


@dataclass(frozen=True)
class Outcome:
    """The first run, and whether the deploy changed anything."""

    run: FlowRun
    rows: int
    changed: bool


def deploy(
    provider: ClusterProvider,
    references: Mapping[str, str],
    day: dt.date,
    *,
    loaded: Sequence[Image] = (),
    accept_unenforced: bool,
) -> Outcome:
    """Deploy k8s/environments/local to a running cluster and run the ETL.

    `references` are those of the images by name, with a tag or a digest. The nodes pull them,
    except for those in `loaded`, which are loaded into the nodes. Refuses a cluster in which Argo
    CD deploys the platform, and a network that does not enforce NetworkPolicies, unless
    `accept_unenforced` is set. A step whose result is already in place changes nothing. Raises
    PlatformError for the first step that fails; the next call continues from there.
    """
    ensure_clients(["kubectl", "helm"])
    kubectl = Kubectl(provider.kubeconfig())
    api = kubectl.api()
    refuse_argocd(api)
    changed = load(provider, loaded) if loaded else False
    changed |= prepare(kubectl, loaded)
    server = server_release(references, api)
    with enforcement_check(
        kubectl, references["platform"], accept_unenforced=accept_unenforced
    ) as require_enforcement:
        with step("Install the object store, the warehouse and prefect-server"):
            changed |= apply_data(kubectl, references)
            changed |= install(kubectl, server)
        with step("Wait for prefect-server"):
            wait_until_ready(api, server.namespace, _selector(server), within=_READY_WITHIN)
        require_enforcement()  # before there is a worker, which starts runs
    with step("Install prefect-worker, which configures the server"):
        changed |= bool(copy_secrets(api, run_identity=has_run_identity()))
        worker = worker_release(references, api)
        changed |= install(kubectl, worker)
    with step("Wait for the configuration, prefect-worker and the data of the flows"):
        wait_until_ready(api, worker.namespace, _selector(worker), within=_READY_WITHIN)
        wait_for_data(api)
    return run_first(kubectl, day, changed=changed)


def prepare(kubectl: Kubectl, loaded: Sequence[Image]) -> bool:
    """Create what the releases need; True when that changed anything.

    `loaded` are the images that were loaded into the nodes.
    """
    with step("Create namespaces and secrets"):
        changed = kubectl.apply((ENVIRONMENT / "namespaces.yaml").read_text())
        changed |= bool(bootstrap_secrets(kubectl.api()))
        if loaded:  # images that the nodes pull have labels with their bases
            changed |= record_bases(kubectl, loaded)
    return changed


def run_first(kubectl: Kubectl, day: dt.date, *, changed: bool) -> Outcome:
    """Run the ETL for `day`; `changed` says whether the deploy changed anything before."""
    api = kubectl.api()
    templates = base_job_templates(client.CoreV1Api(api))
    refuse_unrestricted(api, job_namespaces(templates))
    with connected(kubectl) as prefect:
        run, is_new = first_run.find_or_start(prefect, day)
        with step(f"Run {first_run.DEPLOYMENT} for {day} as {run.name}"):
            run = first_run.wait_for(prefect, run)
    return Outcome(run, _count_rows(kubectl, day), changed or is_new)


def load(provider: ClusterProvider, images: Sequence[Image]) -> bool:
    """Load `images` into every node that lacks one of them; True when there was such a node."""
    with step("Load the images into the nodes") as current:
        archives = {image.archive for image in images}
        loaded = [
            provider.load_images(
                archive, [image.reference for image in images if image.archive == archive]
            )
            for archive in sorted(archives)
        ]
        current.detail = "" if any(loaded) else "already loaded"
    return any(loaded)


def apply_data(kubectl: Kubectl, references: Mapping[str, str]) -> bool:
    """Apply the data services, and delete the Jobs of their earlier versions."""
    folder = ENVIRONMENT / "data"
    rendered = json.loads(manifests.render(program("kubectl"), folder, untagged(references)))
    _annotate_secret_versions(rendered["items"], kubectl.api())
    changed = kubectl.apply(json.dumps(rendered))
    jobs = {f"job.batch/{item['metadata']['name']}" for item in rendered["items"]}
    here = f"--namespace={names.DATA_NAMESPACE}"
    listed = kubectl(here, "get", "jobs", f"--selector={_DATA}", "--output=name")
    for superseded in set(listed.split()) - jobs:
        kubectl(here, "delete", superseded)
    return changed


def wait_for_data(api: client.ApiClient) -> None:
    """Wait until the data services are ready; PlatformError when they are not in time."""
    wait_until_ready(api, names.DATA_NAMESPACE, _DATA, within=_READY_WITHIN)


def _annotate_secret_versions(items: Sequence[dict[str, Any]], api: client.ApiClient) -> None:
    """Annotate each data service with its Secret's version, so that a new version restarts it."""
    for item in items:
        if item["kind"] in {"Deployment", "StatefulSet"}:
            item["spec"]["template"]["metadata"]["annotations"] = {
                "prefect-platform/secret-version": secret_version(
                    api, names.DATA_NAMESPACE, item["metadata"]["name"]
                )
            }


def server_release(references: Mapping[str, str], api: client.ApiClient) -> Release:
    """Return prefect-server with the images, and the versions of the Secrets in the cluster."""
    secrets = ("auth", "database", "encryption", "redis")
    previous = {name: f"prefect-{name}-previous" for name in ("auth", "encryption")}
    return Release(
        name=names.SERVER_RELEASE,
        namespace=names.SERVER_NAMESPACE,
        chart=REPOSITORY / "helm" / "prefect-server",
        values=[ENVIRONMENT / "server.yaml", ENVIRONMENT / "retention.yaml"],
        settings={
            "image": _image(references["platform"]),
            "database": {"embedded": {"image": _image(references["postgres"])}},
            "redis": {"embedded": {"image": _image(references["redis"])}},
            "secretVersions": {
                name: secret_version(api, names.SERVER_NAMESPACE, f"prefect-{name}")
                for name in secrets
            },
            **{
                name: {"previousSecret": {"name": secret}}
                for name, secret in previous.items()
                if has_secret(api, names.SERVER_NAMESPACE, secret)
            },
            "networkPolicies": _network_policies(api),
        },
    )


def worker_release(references: Mapping[str, str], api: client.ApiClient) -> Release:
    """Return prefect-worker with the images, and the version of its copied Secret."""
    auth = (names.WORKER_NAMESPACE, names.AUTH_SECRET)
    return Release(
        name=names.WORKER_RELEASE,
        namespace=names.WORKER_NAMESPACE,
        chart=REPOSITORY / "helm" / "prefect-worker",
        values=[ENVIRONMENT / "worker.yaml", ENVIRONMENT / "retention.yaml"],
        settings={
            "image": _image(references["platform"]),
            "jobs": {"image": _image(references["flows"])},
            **(
                {}
                if has_run_identity()
                else {"secretVersions": {"auth": secret_version(api, *auth)}}
            ),
            "networkPolicies": _network_policies(api),
        },
        contents={"configuration.platform": ENVIRONMENT / "platform.yaml"},
    )


def _network_policies(api: client.ApiClient) -> dict[str, Any]:
    addresses = kubernetes_api_addresses(api)
    return {
        "kubernetesApi": {"to": [{"ipBlock": {"cidr": f"{address}/32"}} for address in addresses]}
    }


def has_run_identity() -> bool:
    """Return whether pods have tokens instead of the auth string; raises PlatformError."""
    path = ENVIRONMENT / "worker.yaml"
    try:
        values = YAML(typ="safe").load(path) or {}
        return Auth.model_validate(values.get("auth") or {}).run_identity.enabled
    except (YAMLError, ValidationError) as error:
        raise PlatformError(
            f"{path} cannot be read: {error}",
            next_step="correct the file, and run the command again",
        ) from error


def _image(reference: str) -> dict[str, str]:
    """Return the values that select an image by its tag or its digest."""
    kind, separator = ("digest", "@") if "@" in reference else ("tag", ":")
    repository, _, selected = reference.rpartition(separator)
    registry, _, short = repository.rpartition("/")
    return {"registry": registry, "repository": short, kind: selected}


def _selector(release: Release) -> str:
    return names.selector(instance=release.name)


def _count_rows(kubectl: Kubectl, day: dt.date) -> int:
    """Return how many rows the warehouse has for `day`, with psql in the database's pod."""
    psql = ["psql", "--username=warehouse", "--dbname=warehouse", "-At", f"--set=day={day}"]
    counted = kubectl(
        *("--namespace", names.DATA_NAMESPACE, "exec", "--stdin"),
        *(f"statefulset/{names.WAREHOUSE}", "--", *psql),
        stdin="SELECT count(*) FROM daily_delays WHERE day = :'day'",
    )
    return int(counted)
