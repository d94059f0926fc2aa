"""Connect from this machine to the Prefect server of a cluster."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kubernetes import client
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_TLS_INSECURE_SKIP_VERIFY, temporary_settings

from prefect_platform.configuration.core.prefect_api import prefect_api
from prefect_platform_cli.deploy.secrets import read_auth_string
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl

_PATH = "PREFECT_SERVER_UI_SERVE_BASE"


@contextmanager
def forwarded(kubectl: Kubectl, local_port: int = 0) -> Iterator[str]:
    """Forward a port of this machine to the server and yield the URL of its user interface.

    With `local_port` 0, a free port is used. Raises PlatformError when there is no server.
    """
    with kubectl.port_forward(
        f"service/{names.SERVER_RELEASE}",
        4200,
        namespace=names.SERVER_NAMESPACE,
        local_port=local_port,
    ) as port:
        yield server_url(kubectl, f"127.0.0.1:{port}")


@contextmanager
def connected(kubectl: Kubectl) -> Iterator[SyncPrefectClient]:
    """Yield a client of the server's API.

    Raises PlatformError when there is no server, or when it refuses the auth string in the Secret.
    """
    with (
        # The port-forward ends in the API's pod, whose certificate is not for this machine's name.
        temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}),
        forwarded(kubectl) as url,
        prefect_api(f"{url}/api", read_auth_string(kubectl.api())) as prefect,
    ):
        yield prefect


def path_prefix(deployment: Mapping[str, Any]) -> str:
    """Return the path of `publicUrl`, which is the prefix of everything that the API serves."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return next((str(each["value"]) for each in container["env"] if each["name"] == _PATH), "")


def scheme(deployment: Mapping[str, Any]) -> str:
    """Return `https` if the API serves TLS, otherwise `http`."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return str(container["ports"][0]["name"])


def kubernetes_api_addresses(api: client.ApiClient) -> list[str]:
    """Return the IPv4 addresses at which pods reach the Kubernetes API, sorted."""
    slices = client.DiscoveryV1Api(api).list_namespaced_endpoint_slice(
        "default", label_selector="kubernetes.io/service-name=kubernetes"
    )
    return sorted(
        address
        for found in slices.items
        if found.address_type == "IPv4"
        for endpoint in found.endpoints
        for address in endpoint.addresses
    )


def server_url(kubectl: Kubectl, address: str) -> str:
    """Return the URL of the server at `address`, with the scheme and the path of the release."""
    api = kubectl.api()
    selector = names.selector(instance=names.SERVER_RELEASE, component="api")
    apps = client.AppsV1Api(api)
    found = apps.list_namespaced_deployment(names.SERVER_NAMESPACE, label_selector=selector).items
    if not found:
        return f"http://{address}"
    deployment = api.sanitize_for_serialization(found[0])
    return f"{scheme(deployment)}://{address}{path_prefix(deployment)}"
