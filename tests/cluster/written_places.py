"""All places other than Secrets that a deployed platform writes to, and their contents."""

import base64
import gzip
import json
from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any

import httpx
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.orchestration.routes import ServerRoutes

from prefect_platform.configuration.core.prefect_api import pages
from prefect_platform_cli.deploy.releases import installed
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import helm, on_node
from tests.support.secret_search import Place, Secret

_PART_OF = "app.kubernetes.io/part-of"
_RELEASE = "helm.sh/release.v1"
# Keys that Kubernetes, its controllers and our charts use for public values.
_PUBLIC = {"ca.crt", "tls.crt", "namespace", "username", "user", "host", "port", "dbname"}
_LISTED: tuple[ServerRoutes, ...] = (
    *("/flow_runs/filter", "/task_runs/filter", "/deployments/filter", "/work_pools/filter"),
    *("/variables/filter", "/automations/filter", "/artifacts/filter", "/logs/filter"),
    *("/block_documents/filter", "/v2/concurrency_limits/filter"),
)


def namespaces(kubectl: Kubectl) -> list[str]:
    """Return the namespaces that have the platform's label."""
    found = kubernetes_client.CoreV1Api(kubectl.api()).list_namespace(
        label_selector=f"{_PART_OF}=prefect-platform"
    )
    return [each.metadata.name for each in found.items]


def secret_values(kubectl: Kubectl) -> list[Secret]:
    """Return every value of every Secret that the platform has created, except for public keys.

    Secrets that tests or users create lack the platform's label. Helm's records of releases are
    also Secrets, but they are only searched, and their content is not a value to search for.
    """
    return [
        Secret(f"{namespace}/{secret.metadata.name} {key}", base64.b64decode(value).decode())
        for namespace, secret in _secrets(kubectl)
        if (secret.metadata.labels or {}).get(_PART_OF) == "prefect-platform"
        for key, value in (secret.data or {}).items()
        if key not in _PUBLIC
    ]


def releases(kubectl: Kubectl) -> Iterator[Place]:
    """Yield what Helm prints about each release, and its record of each revision."""
    for release in installed(kubectl):
        name, namespace = release["name"], release["namespace"]
        for what in (("values", "--all"), ("manifest",), ("hooks",), ("notes",)):
            printed = helm(kubectl, namespace, "get", what[0], name, *what[1:], wait=False)
            yield f"helm get {what[0]} {name}", printed.encode()
    for namespace, secret in _secrets(kubectl):
        if secret.type == _RELEASE:
            record = base64.b64decode(base64.b64decode(secret.data["release"]))
            content = _with_decoded(json.loads(gzip.decompress(record)))
            yield f"the record {secret.metadata.name} in {namespace}", content


def objects(kubectl: Kubectl) -> Iterator[Place]:
    """Yield every object of the cluster except for Secrets, and the metadata of Secrets."""
    listable = kubectl("api-resources", "--verbs=list", "--output=name").split()
    kinds = ",".join(sorted({*listable} - {"secrets"}))
    listed = kubectl("get", kinds, "--all-namespaces", "--output=json", "--show-managed-fields")
    for each in json.loads(listed)["items"]:
        metadata = each["metadata"]
        where = (
            f"the {each['kind']} {metadata['name']} in {metadata.get('namespace', 'no namespace')}"
        )
        yield where, json.dumps(each).encode()
    for namespace, secret in _secrets(kubectl):
        yield (
            f"the metadata of the Secret {secret.metadata.name} in {namespace}",
            json.dumps(kubectl.api().sanitize_for_serialization(secret.metadata)).encode(),
        )


def logs_of_the_node() -> Iterator[Place]:
    """Yield the logs of all containers on the node, and the journal of the node."""
    # A log can disappear with its pod while it is read.
    read = "grep --recursive --text --no-messages '' /var/log/pods || true"
    lines = on_node("sh", "-c", read).splitlines()
    for path, written in groupby(lines, lambda line: line.partition(":")[0]):
        yield f"the log {path}", "\n".join(written).encode()
    yield "the journal of the node", on_node("journalctl", "--no-pager").encode()


def answers(prefect: SyncPrefectClient) -> Iterator[Place]:
    """Yield what the API returns for its auth string, including the content of blocks."""
    for route in _LISTED:
        body = {"include_secrets": True} if route == "/block_documents/filter" else {}
        for each in pages(prefect, route, body):
            yield (
                f"the response of {route} on {each.get('name')} {each['id']}",
                json.dumps(each).encode(),
            )
    answer = prefect.request("POST", "/events/filter", json={"limit": 50})
    while True:
        yield "the events of the API", answer.content
        if not (following := answer.json()["next_page"]):
            break
        page = httpx.URL(following).params
        answer = prefect.request("GET", "/events/filter/next", params=dict(page))
    yield "the settings that the API returns", prefect.request("GET", "/admin/settings").content


def _secrets(kubectl: Kubectl) -> Iterator[tuple[str, Any]]:
    core = kubernetes_client.CoreV1Api(kubectl.api())
    for namespace in namespaces(kubectl):
        for secret in core.list_namespaced_secret(namespace).items:
            yield namespace, secret


def _with_decoded(record: dict[str, Any]) -> bytes:
    """Return a release's record, and the decoded files of its chart, which it holds in base64."""
    files = chain(record["chart"].get("templates") or [], record["chart"].get("files") or [])
    decoded = [base64.b64decode(each["data"]) for each in files]
    return b"\n".join([json.dumps(record).encode(), *decoded])
