"""A Prefect plugin: the API serves TLS, and follows the renewal of its certificate.

`prefect server start` has no option for TLS, but uvicorn, which it runs, has. Kubernetes replaces
the files of the certificate when the Secret changes. Each handshake looks whether they are new, so
that a renewed certificate is served without a restart.

Prefect loads the plugin when it is imported, in each process with PREFECT_PLUGINS_ENABLED. The
files are named by API_TLS_CERTIFICATE_FILE and API_TLS_KEY_FILE; when these are empty, nothing
changes.
"""

import os
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvicorn
from prefect.logging import get_logger
from prefect.plugins import HookContext, register_hook

_CERTIFICATE = "API_TLS_CERTIFICATE_FILE"
_KEY = "API_TLS_KEY_FILE"

_logger = get_logger("server.api_tls")


class RenewedCertificate:
    """Gives each new connection the certificate that is in the file at that time."""

    def __init__(self, certificate: Path, load: Callable[[], ssl.SSLContext]) -> None:
        self._certificate = certificate
        self._load = load
        self._version = self._stat()
        self.listening = self._current = load()
        """The context to listen with, which hands each connection on to the newest one."""
        self.listening.sni_callback = self._choose

    def _choose(
        self,
        connection: ssl.SSLSocket | ssl.SSLObject,
        _name: str | None,
        _listening: ssl.SSLContext,
    ) -> None:
        try:
            version = self._stat()
            if version != self._version:
                # A new context, because a failed load would leave half of a pair in an old one.
                self._current = self._load()
                self._version = version
                _logger.info("Serving the renewed certificate in %s", self._certificate)
        except OSError as error:  # ssl.SSLError is one
            _logger.warning(
                "The certificate in %s cannot be loaded, so the previous one is still served: %s",
                self._certificate,
                error,
            )
        connection.context = self._current

    def _stat(self) -> tuple[int, int]:
        found = self._certificate.stat()
        return found.st_ino, found.st_mtime_ns


@register_hook
def setup_environment(*, ctx: HookContext) -> None:  # noqa: ARG001 - the hook's signature
    """Make the server of this process serve TLS."""
    if not (certificate := os.environ.get(_CERTIFICATE)):
        return

    def renewed(_config: uvicorn.Config, load: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        return RenewedCertificate(Path(certificate), load).listening

    uvicorn.run = partial(
        uvicorn.run,
        ssl_certfile=certificate,
        ssl_keyfile=os.environ[_KEY],
        ssl_context_factory=renewed,
    )
