"""A Prefect plugin: a client retries its first connection like every later one.

Prefect's client gives up immediately when its very first request finds no server, so that a wrong
URL is reported quickly (`_has_connected` in prefect.client.base). In a cluster the URL is right and
the API is down for a moment, and a run whose pod starts at that moment would crash. The number of
retries is PREFECT_CLIENT_MAX_RETRIES, as for every other request.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.plugins import HookContext, register_hook


class _AlwaysTrue:
    """An attribute that stays true even when its object assigns another value."""

    def __get__(self, _instance: object, _owner: type) -> bool:
        return True

    def __set__(self, _instance: object, _value: object) -> None:
        pass


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make every client of this process behave as if it had connected before."""
    for client in (PrefectHttpxAsyncClient, PrefectHttpxSyncClient):
        client._has_connected = _AlwaysTrue()  # type: ignore[assignment]
