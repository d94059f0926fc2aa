"""Connect to a Kubernetes API that may be down or still starting, without retries."""

from http import HTTPStatus
from pathlib import Path

from kubernetes import client, config


def asking_once(kubeconfig: Path, context: str | None = None) -> client.ApiClient:
    """Return a client for `context` of `kubeconfig` (None: its current one) that never retries."""
    configuration = client.Configuration()
    configuration.retries = False
    config.load_kube_config(str(kubeconfig), context=context, client_configuration=configuration)
    return client.ApiClient(configuration)


def is_ready(api: client.ApiClient) -> bool:
    """Return whether the API has finished starting; until then it may restart."""
    answer = api.rest_client.request("GET", f"{api.configuration.host}/readyz", _request_timeout=10)
    return bool(answer.status == HTTPStatus.OK)
