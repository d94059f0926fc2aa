"""A Prefect plugin: a process sends the token of its pod to the API, as the kubelet renews it.

Prefect's clients read a credential once, when they are made. The kubelet renews the token in the
file POD_TOKEN_FILE while the process goes on, so that each request and each new connection of a web
socket reads it. When POD_TOKEN_FILE is empty, nothing changes.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

from typing import Any

import httpx
from prefect._internal import version_checking
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.events.clients import PrefectEventsClient, PrefectEventSubscriber
from prefect.logging.clients import PrefectLogsSubscriber
from prefect.plugins import HookContext, register_hook
from prefect.settings.context import get_current_settings

from prefect_platform.api_authentication import PodToken, pod_token


class _TokenAttribute:
    """The token, in place of a setting and of an attribute that is set once."""

    def __init__(self, token: PodToken) -> None:
        self._token = token

    def value(self) -> str:
        """Return the token as it is now, as a setting does."""
        return self._token.value()

    def __get__(self, _instance: object, _owner: type) -> str:
        return self.value()

    def __set__(self, _instance: object, _value: object) -> None:
        pass


_send_async = PrefectHttpxAsyncClient.send
_send = PrefectHttpxSyncClient.send


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make every client of the API in this process send the token."""
    token = pod_token()
    if token is None:
        return

    def authorize(request: httpx.Request) -> None:
        api = httpx.URL(get_current_settings().api.url or "")
        if (request.url.host, request.url.port) == (api.host, api.port):
            request.headers["Authorization"] = f"Bearer {token.value()}"

    async def send_async(
        self: PrefectHttpxAsyncClient,
        request: httpx.Request,
        *args: Any,  # noqa: ANN401 - as httpx's
        **options: Any,  # noqa: ANN401
    ) -> httpx.Response:
        authorize(request)
        return await _send_async(self, request, *args, **options)

    def send(
        self: PrefectHttpxSyncClient,
        request: httpx.Request,
        *args: Any,  # noqa: ANN401 - as httpx's
        **options: Any,  # noqa: ANN401
    ) -> httpx.Response:
        authorize(request)
        return _send(self, request, *args, **options)

    PrefectHttpxAsyncClient.send = send_async  # type: ignore[method-assign]
    PrefectHttpxSyncClient.send = send  # type: ignore[method-assign]
    attribute = _TokenAttribute(token)
    version_checking.PREFECT_API_KEY = attribute  # type: ignore[attr-defined]
    for client in (PrefectEventsClient, PrefectEventSubscriber, PrefectLogsSubscriber):
        client._auth_token = attribute  # type: ignore[assignment]
