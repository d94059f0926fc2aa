"""Verify the certificate of Prefect's API in requests that do not go through Prefect's clients."""

import os
import ssl

import httpx

from prefect_platform.errors import PlatformError

_AUTHORITY = "PREFECT_API_SSL_CERT_FILE"


def verification() -> ssl.SSLContext:
    """Return what verifies the API, as in Prefect's clients: its authority if one is set.

    Raises FileNotFoundError when the file of the authority is missing.
    """
    authority = os.environ.get(_AUTHORITY)
    return ssl.create_default_context(cafile=authority) if authority else httpx.create_ssl_context()


def refuse_untrusted(api_url: str, error: httpx.TransportError) -> None:
    """Raise PlatformError if `error` says that the API's certificate cannot be verified."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise PlatformError(
            f"The certificate of {api_url} is not trusted: {error}",
            next_step="set api.certificateAuthority of prefect-worker to the authority that signed "
            "it (docs/operations/tls.md)",
        ) from error
