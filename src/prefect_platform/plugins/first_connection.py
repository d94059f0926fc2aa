"""A Prefect plugin: a client retries its first connection like every later one.

Prefect's client gives up immediately when its very first request finds no server, so that a wrong
URL is reported quickly (`_has_connected` in prefect.client.base). Its client for events retries a
connection that is refused, but not one that the API drops while it is opened. In a cluster the URL
is right and the API is down for a moment, and a run whose pod starts at that moment would crash.
The number of retries is PREFECT_CLIENT_MAX_RETRIES, as for every other request, and for events it
is Prefect's own.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED.
"""

from typing import Any

from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.events import clients as events
from prefect.plugins import HookContext, register_hook
from websockets.exceptions import ConnectionClosedError, InvalidMessage
from websockets.frames import CloseCode

_authenticate = events.PrefectEventsClient._auth_handshake


class _AlwaysTrue:
    """An attribute that stays true even when its object assigns another value."""

    def __get__(self, _instance: object, _owner: type) -> bool:
        return True

    def __set__(self, _instance: object, _value: object) -> None:
        pass


async def _authenticate_or_retry(client: events.PrefectEventsClient) -> None:
    """Authenticate; raise what Prefect retries if the API vanishes, or asks to try again later.

    An API that refuses the authentication says so before it closes the connection.
    """
    try:
        await _authenticate(client)
    except Exception as error:
        closed = error.__cause__
        if isinstance(closed, ConnectionClosedError) and (
            closed.rcvd is None or closed.rcvd.code == CloseCode.TRY_AGAIN_LATER
        ):
            raise closed from None
        raise


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make every client of this process behave as if it had connected before."""
    for client in (PrefectHttpxAsyncClient, PrefectHttpxSyncClient):
        client._has_connected = _AlwaysTrue()  # type: ignore[assignment]
    # Prefect's runner copies the tuple when it is imported, which is later.
    events.RETRYABLE_EXCEPTIONS = (*events.RETRYABLE_EXCEPTIONS, InvalidMessage)
    client_of_events: Any = events.PrefectEventsClient
    client_of_events._auth_handshake = _authenticate_or_retry
