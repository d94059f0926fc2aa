"""A client of the Kubernetes API, in a pod and outside of a cluster."""

from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient


async def connect() -> ApiClient:
    """Return a client for the cluster of this pod, or outside a cluster for the kubeconfig's."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
        return ApiClient()
    except config.ConfigException:
        return await config.new_client_from_config()
