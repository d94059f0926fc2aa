"""A worker's channel to the API sends the token of its pod, which the kubelet renews.

Prefect's worker reads the credential of this web socket from its settings, once it connects. The
plugin pod_token does the same for all other clients; this import would slow down each run.
"""

from prefect.workers._worker_channel._protocol import WorkerChannelProtocolHandler

from prefect_platform.api_authentication import pod_token


def send_token() -> None:
    """Send the token with each new connection, if the pod has one."""
    token = pod_token()
    if token is None:
        return

    def auth_token(self: WorkerChannelProtocolHandler) -> str | None:  # noqa: ARG001 - a method
        return token.value()

    WorkerChannelProtocolHandler._auth_token = auth_token  # type: ignore[method-assign]
