"""A Prefect plugin: a run sends the token of its pod to the API, and renews it.

Prefect's clients read a credential once, when they are made. The kubelet renews the token in the
file RUN_TOKEN_FILE while the run goes on, so that each request and each new connection of a web
socket reads it. When RUN_TOKEN_FILE is empty, nothing changes.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

import os
from pathlib import Path
from typing import Any

import httpx
from prefect._internal import version_checking
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.events.clients import PrefectEventsClient, PrefectEventSubscriber
from prefect.logging.clients import PrefectLogsSubscriber
from prefect.plugins import HookContext, register_hook
from prefect.settings.context import get_current_settings

_VARIABLE = "RUN_TOKEN_FILE"


class PodToken:
    """The token in a file, in place of a setting and of an attribute that is set once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def value(self) -> str:
        """Return the token as it is now."""
        return self._path.read_text().strip()

    def __get__(self, _instance: object, _owner: type) -> str:
        return self.value()

    def __set__(self, _instance: object, _value: object) -> None:
        pass


_send_async = PrefectHttpxAsyncClient.send
_send = PrefectHttpxSyncClient.send


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make every client of the API in this process send the token."""
    if not (path := os.environ.get(_VARIABLE)):
        return
    token = PodToken(Path(path))

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
    version_checking.PREFECT_API_KEY = token  # type: ignore[attr-defined]
    for client in (PrefectEventsClient, PrefectEventSubscriber, PrefectLogsSubscriber):
        client._auth_token = token  # type: ignore[assignment]
