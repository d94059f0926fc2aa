"""A client of a Kubernetes API that may not answer: it says so at once."""

from pathlib import Path

from kubernetes import client, config


def asking_once(kubeconfig: Path, context: str | None = None) -> client.ApiClient:
    """Return a client for `context` of `kubeconfig` (None: its current one) that never retries."""
    configuration = client.Configuration()
    configuration.retries = False
    config.load_kube_config(str(kubeconfig), context=context, client_configuration=configuration)
    return client.ApiClient(configuration)
