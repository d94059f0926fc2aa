"""What a request to Prefect's API that failed means to whoever reads the log of a pod."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from prefect_platform.errors import PlatformError


@contextmanager
def told_in_a_sentence(api_url: str) -> Iterator[None]:
    """Raise PlatformError for an API at `api_url` that is away or that refuses a request."""
    try:
        yield
    except httpx.TransportError as error:
        raise PlatformError(
            f"{api_url} does not answer ({error})",
            next_step="look at the API's pods, and at api.url and networkPolicies.api of the chart",
        ) from error
    except httpx.HTTPStatusError as error:
        raise PlatformError(
            f"{error.request.method} {error.request.url} was answered with "
            f"{error.response.status_code}",
            next_step="make the Secret of the worker equal to the one of the server"
            if error.response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
            else "look at the logs of the API",
        ) from error
