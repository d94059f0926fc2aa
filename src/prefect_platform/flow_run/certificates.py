"""Prefect's clients of an API without TLS load no certificate authorities, unless they need them.

Prefect loads all of them for each client, which takes 30 ms, and a run makes six clients.
"""

import ssl
from typing import Any

import certifi
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.settings.context import get_current_settings


class _LoadedLate(ssl.SSLContext):
    """A context like Prefect's, which loads the authorities before its first TLS connection."""

    _loaded = False

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 - as ssl's
        self._load()
        return super().wrap_socket(*args, **options)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:  # noqa: ANN401 - as ssl's
        self._load()
        return super().wrap_bio(*args, **options)

    def _load(self) -> None:
        if not self._loaded:
            self.load_verify_locations(get_current_settings().api.ssl_cert_file or certifi.where())
            self._loaded = True


def load_late() -> None:
    """Let the clients that this process makes from now on load the authorities late."""
    for client in (PrefectClient, SyncPrefectClient):
        client.__init__ = _with_late_context(client.__init__)  # type: ignore[method-assign]


def _with_late_context(init: Any) -> Any:  # noqa: ANN401
    def __init__(  # noqa: N807
        self: object,
        api: object,
        *,
        httpx_settings: dict[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        settings = dict(httpx_settings or {})
        verified = not get_current_settings().api.tls_insecure_skip_verify
        # Such an API may redirect to one with TLS.
        if isinstance(api, str) and api.startswith("http://") and verified:
            settings.setdefault("verify", _LoadedLate(ssl.PROTOCOL_TLS_CLIENT))
        init(self, api, httpx_settings=settings, **options)

    return __init__
