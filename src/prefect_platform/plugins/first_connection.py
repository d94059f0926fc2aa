"""A plugin of Prefect: a client retries its first connection as it retries all later ones.

Prefect's client gives up at once when its very first request finds no server, to be quick about a
wrong URL (`_has_connected` in prefect.client.base). In a cluster the URL is right and the API is
away for a moment: a run whose pod starts in that moment would crash. How long it is patient is
PREFECT_CLIENT_MAX_RETRIES, as for every other request.

Prefect loads it as it is imported, in each process that has PREFECT_PLUGINS_ENABLED.
"""

from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.plugins import HookContext, register_hook


class _AlwaysTrue:
    """An attribute that stays true, whatever its object sets."""

    def __get__(self, _instance: object, _owner: type) -> bool:
        return True

    def __set__(self, _instance: object, _value: object) -> None:
        pass


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make every client of this process behave as one that has been connected before."""
    for client in (PrefectHttpxAsyncClient, PrefectHttpxSyncClient):
        client._has_connected = _AlwaysTrue()  # type: ignore[assignment]
