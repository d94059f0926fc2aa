"""Find the parts of an installed platform through the Kubernetes API."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client

from prefect_platform.errors import PlatformError
from prefect_platform_cli.doctor.isolation import Origin, Place, Target
from prefect_platform_cli.kube import names

_SERVICES = {
    Target.API: ("api", ""),
    Target.DATABASE: ("database", "the chart runs no database: the external one protects itself"),
    Target.REDIS: ("redis", "the chart runs no Redis: the mode is single, or Redis is external"),
}
# The variables in which a run finds the host and the port, or the port if there is no variable.
_DATA = {
    Target.OBJECT_STORE: ("AWS_ENDPOINT_URL_S3", "443"),
    Target.WAREHOUSE: ("WAREHOUSE_HOST", "WAREHOUSE_PORT"),
}
_METADATA = ("169.254.169.254", 80)


@dataclass(frozen=True)
class Component:
    """A part of the platform: its pods' namespace, labels and image.

    A job pod also has its `pool`, and the `priority_class` without which its quota refuses a pod.
    """

    source: Origin
    namespace: str
    labels: dict[str, str]
    image: str
    pull_secrets: list[dict[str, str]] = field(default_factory=list)
    pool: str = ""
    priority_class: str = ""

    def __str__(self) -> str:
        return f"{self.source} of {self.pool}" if self.pool else self.source


def components(api: client.ApiClient) -> list[Component]:
    """Return the running parts: first the job pods of each pool, last a pod that is not ours.

    Raises PlatformError when there is no server, or no pool.
    """
    templates = base_job_templates(client.CoreV1Api(api))
    found = [_job_pods(pool, template) for pool, template in templates.items()]
    apps = client.AppsV1Api(api)
    for source, namespace, component in (
        (Origin.WORKER, names.WORKER_NAMESPACE, "worker"),
        (Origin.API, names.SERVER_NAMESPACE, "api"),
        (Origin.SERVICES, names.SERVER_NAMESPACE, "services"),
    ):
        selector = names.selector(part_of="prefect-platform", component=component)
        listed = apps.list_namespaced_deployment(namespace, label_selector=selector).items
        found += [
            _deployed(source, namespace, api.sanitize_for_serialization(each)) for each in listed
        ]
    served = next((each for each in found if each.source == Origin.API), None)
    if served is None:
        raise PlatformError(
            f"prefect-server is not installed: there is no Deployment of its API in the namespace "
            f"{names.SERVER_NAMESPACE}",
            next_step="make deploy-cluster",
        )
    return [*found, Component(Origin.STRANGER, "default", {}, served.image, served.pull_secrets)]


def places(api: client.ApiClient, world: tuple[str, int]) -> Iterator[Place]:
    """Yield every target except job pods; `world` is an address outside the cluster."""
    core = client.CoreV1Api(api)
    for target, (component, missing) in _SERVICES.items():
        selector = names.selector(name=names.SERVER_RELEASE, component=component)
        listed = core.list_namespaced_service(names.SERVER_NAMESPACE, label_selector=selector).items
        yield _service(target, listed[0]) if listed else Place(target, missing=missing)
    environments = [_environment(template) for template in base_job_templates(core).values()]
    for target, (host, port) in _DATA.items():
        given = next((each for each in environments if each.get(host)), None)
        if given is None:
            yield Place(target, missing=f"no work pool sets {host} for its runs")
        else:
            yield _address(target, given[host], given.get(port, port))
    # Its address is only in a Secret, together with the password: look for its Service instead.
    locks = core.list_service_for_all_namespaces(
        label_selector=names.selector(component=names.RESULT_LOCKS)
    ).items
    if locks:
        yield _service(Target.LOCKS, locks[0])
    else:
        yield Place(Target.LOCKS, missing="no Service has the label of result-locks")
    yield _service(Target.KUBERNETES, core.read_namespaced_service("kubernetes", "default"))
    yield Place(Target.METADATA, host=_METADATA[0], port=_METADATA[1])
    yield Place(Target.DNS, host="kubernetes.default.svc")
    yield Place(Target.WORLD, host=world[0], port=world[1])


def base_job_templates(core: client.CoreV1Api) -> dict[str, dict[str, Any]]:
    """Return the base job template of each pool of the release, by the pool's name.

    Raises PlatformError when prefect-worker is not installed.
    """
    listed = core.list_namespaced_config_map(
        names.WORKER_NAMESPACE, field_selector=f"metadata.name={names.BASE_JOB_TEMPLATES}"
    ).items
    if not listed:
        raise PlatformError(
            f"prefect-worker is not installed: the ConfigMap {names.BASE_JOB_TEMPLATES} is missing "
            f"in the namespace {names.WORKER_NAMESPACE}",
            next_step="make deploy-cluster",
        )
    return {
        name.removesuffix(".json"): json.loads(written) for name, written in listed[0].data.items()
    }


def _job_pods(pool: str, template: dict[str, Any]) -> Component:
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]
    priority_class = pod["spec"].get("priorityClassName", "")
    return Component(
        Origin.JOB,
        template["job_configuration"]["namespace"],
        pod["metadata"]["labels"],
        template["variables"]["properties"]["image"]["default"],
        pod["spec"].get("imagePullSecrets", []),
        pool,
        "" if "{{" in priority_class else priority_class,  # each run may choose it
    )


def _deployed(source: Origin, namespace: str, deployment: dict[str, Any]) -> Component:
    pod = deployment["spec"]["template"]
    return Component(
        source,
        namespace,
        pod["metadata"]["labels"],
        pod["spec"]["containers"][0]["image"],
        pod["spec"].get("imagePullSecrets", []),
        pod["metadata"]["labels"].get("prefect.io/work-pool-name", ""),
    )


def _environment(template: dict[str, Any]) -> dict[str, str]:
    variables: dict[str, str] = template["variables"]["properties"]["env"]["default"]
    return variables


def _service(target: Target, service: client.V1Service) -> Place:
    # Use the IP address, so that denied DNS is not mistaken for a denied target.
    return Place(target, host=service.spec.cluster_ip, port=service.spec.ports[0].port)


def _address(target: Target, host: str, port: str) -> Place:
    url = urlsplit(host if "://" in host else f"//{host}")
    name = url.hostname or ""
    external = not name.partition(".svc")[1]
    return Place(target, host=name, port=url.port or int(port), external=external)
