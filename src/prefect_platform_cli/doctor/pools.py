"""Check what keeps the runs of each work pool inside their namespace and their template."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from prefect_platform.errors import PlatformError
from prefect_platform.worker.base_job_template import BaseJobTemplate
from prefect_platform_cli.kube import names

_ENFORCED = "pod-security.kubernetes.io/enforce"
_RESTRICTED = "restricted"
_NAME = "kubernetes.io/metadata.name"
# Prints how the configuration corrects the pools: its Job, or the commands where there is none.
_CORRECT = f"helm get notes {names.WORKER_RELEASE} --namespace {names.WORKER_NAMESPACE}"


@dataclass(frozen=True)
class Wall:
    """One protection of a pool: what it is, and what is wrong with it, empty if it holds."""

    pool: str
    name: str
    fault: str = ""


def walls(
    api: client.ApiClient, prefect: SyncPrefectClient, templates: Mapping[str, Mapping[str, Any]]
) -> list[Wall]:
    """Return every protection of each pool in `templates`, the chart's templates by pool."""
    found: list[Wall] = []
    namespaces = job_namespaces(templates)
    for (pool, template), namespace in zip(templates.items(), namespaces, strict=True):
        found += [
            Wall(pool, "Pod Security", _pod_security(api, namespace)),
            Wall(pool, "NetworkPolicy", _network_policy(api, namespace)),
            Wall(pool, "admission policy", _admission_policy(api, namespace)),
            Wall(pool, "template", _template(prefect, pool, template)),
        ]
    return found


def template_states(
    prefect: SyncPrefectClient, templates: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return a line for each pool: whether the server has the chart's template, or what to do."""
    return [
        f"{fault}; next: {_CORRECT}"
        if (fault := _template(prefect, pool, template))
        else f"{pool}: the server has the base job template of the chart"
        for pool, template in templates.items()
    ]


def job_namespaces(templates: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the namespace of the job pods of each template."""
    return [str(template["job_configuration"]["namespace"]) for template in templates.values()]


def refuse_faults(found: Collection[Wall]) -> None:
    """Raise PlatformError with one sentence for each protection that does not hold."""
    if faults := [each.fault for each in found if each.fault]:
        raise PlatformError(
            "the runs of a work pool are not confined as declared:\n" + "\n".join(faults),
            next_step="docs/operations/isolation.md#check-the-walls-around-each-work-pool",
        )


def refuse_unrestricted(api: client.ApiClient, namespaces: Collection[str]) -> None:
    """Raise PlatformError if a namespace of job pods does not enforce Pod Security."""
    if faults := [fault for each in namespaces if (fault := _pod_security(api, each))]:
        raise PlatformError(
            "; ".join(faults),
            next_step=f"kubectl label namespace NAME {_ENFORCED}={_RESTRICTED} --overwrite",
        )


def _pod_security(api: client.ApiClient, namespace: str) -> str:
    try:
        labels = client.CoreV1Api(api).read_namespace(namespace).metadata.labels or {}
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return f"the namespace {namespace} does not exist"
    if labels.get(_ENFORCED) == _RESTRICTED:
        return ""
    return (
        f"the namespace {namespace} does not enforce the Pod Security Standard {_RESTRICTED}: its "
        f"label {_ENFORCED} is {labels.get(_ENFORCED) or 'not set'}"
    )


def _network_policy(api: client.ApiClient, namespace: str) -> str:
    listed = client.NetworkingV1Api(api).list_namespaced_network_policy(namespace).items
    for each in listed:
        selector = api.sanitize_for_serialization(each.spec.pod_selector)
        if not selector and {"Ingress", "Egress"} <= set(each.spec.policy_types or ()):
            return ""
    return (
        f"no NetworkPolicy denies the other traffic of all pods in the namespace {namespace}: see "
        "networkPolicies.enabled of helm/prefect-worker"
    )


def _admission_policy(api: client.ApiClient, namespace: str) -> str:
    policies = client.AdmissionregistrationV1Api(api)
    for each in policies.list_validating_admission_policy_binding().items:
        selector = each.spec.match_resources and each.spec.match_resources.namespace_selector
        names = (selector and selector.match_labels) or {}
        if names == {_NAME: namespace} and "Deny" in (each.spec.validation_actions or ()):
            return ""
    return (
        f"Kubernetes admits Jobs in the namespace {namespace} that the template could not produce: "
        "no policy denies them, see jobs.admissionPolicy of helm/prefect-worker"
    )


def _template(prefect: SyncPrefectClient, pool: str, template: Mapping[str, Any]) -> str:
    try:
        copy = prefect.read_work_pool(pool).base_job_template
    except ObjectNotFound:
        return f"the server does not know the work pool {pool}"
    if differing := BaseJobTemplate(template).differences(copy):
        return (
            f"the server's copy of the base job template of the work pool {pool} differs from the "
            f"chart in {', '.join(differing)}, so its worker starts no run"
        )
    return ""
