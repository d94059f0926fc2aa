"""Find the Secrets that pods of a release need and that it does not create."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubernetes import client

from prefect_platform.errors import PlatformError


def required_secrets(objects: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of the Secrets without which a pod of the rendered `objects` cannot start.

    Secrets that the objects themselves bring are left out, also those that cert-manager writes.
    """
    brought = {
        item["metadata"]["name"] if item["kind"] == "Secret" else item["spec"]["secretName"]
        for item in objects
        if item["kind"] in {"Secret", "Certificate"}
    }
    return {name for item in objects for pod in _pods(item) for name in _secrets(pod)} - brought


def refuse_missing(
    api: client.ApiClient, manifests: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    """Raise PlatformError with all Secrets that the objects of each namespace need and lack."""
    core = client.CoreV1Api(api)
    missing = [
        f"{namespace}/{name}"
        for namespace, objects in manifests.items()
        for name in sorted(
            required_secrets(objects)
            - {each.metadata.name for each in core.list_namespaced_secret(namespace).items}
        )
    ]
    if missing:
        raise PlatformError(
            f"the cluster lacks the Secrets {', '.join(missing)}",
            next_step="create them as in docs/operations/terraform.md#into-the-cluster, then run "
            "the same command again",
        )


def _pods(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the spec of the pods that a workload creates."""
    spec = item.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template", {})
    if "containers" in template.get("spec", {}):
        yield template["spec"]


def _secrets(pod: Mapping[str, Any]) -> Iterator[str]:
    yield from (each["name"] for each in pod.get("imagePullSecrets", []))
    for volume in pod.get("volumes", []):
        projected = volume.get("projected", {}).get("sources", [])
        sources = [volume.get("secret"), *(each.get("secret") for each in projected)]
        for source in sources:
            if source and not source.get("optional"):
                yield source.get("secretName") or source["name"]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        variables = [each.get("valueFrom", {}) for each in container.get("env", [])]
        references = [
            *(each.get("secretKeyRef") for each in variables),
            *(each.get("secretRef") for each in container.get("envFrom", [])),
        ]
        yield from (each["name"] for each in references if each and not each.get("optional"))
