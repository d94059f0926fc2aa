"""A client of Prefect's API that ignores the Prefect profile of whoever runs the command."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.orchestration.routes import ServerRoutes
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    temporary_settings,
)

from prefect_platform.api_failures import NextSteps, describe
from prefect_platform.errors import PlatformError

_PAGE = 200  # the server's limit for one request
_NEXT_STEPS = NextSteps(
    away="make status; when the API is back, run the same command again: it continues where this "
    "one stopped",
    refused="set PREFECT_API_AUTH_STRING to the value in the Secret prefect-auth; in a pod with "
    "run identity, read the log of the API instead",
    failed="read the logs of the API, then run the same command again",
)


@contextmanager
def prefect_api(url: str, auth_string: str | None) -> Iterator[SyncPrefectClient]:
    """Yield a client of the API at `url`; Prefect's own code uses that API inside the block, too.

    Raises PlatformError when the API does not answer, refuses the auth string or reports an error.
    """
    with (
        tempfile.TemporaryDirectory(prefix="prefect-") as home,
        temporary_settings(
            {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth_string, PREFECT_HOME: home}
        ),
        SyncPrefectClient(url, auth_string=auth_string) as client,
        describe(url, _NEXT_STEPS),
    ):
        yield client


def require_same_version(client: SyncPrefectClient) -> None:
    """Raise PlatformError unless the server has the Prefect version that is installed here."""
    version = client.request("GET", "/admin/version").json()
    if version != prefect.__version__:
        raise PlatformError(
            f"the server runs Prefect {version}, but this program is for Prefect "
            f"{prefect.__version__}, whose resources may differ, so nothing was changed",
            next_step="upgrade whichever is behind, prefect-server or prefect-worker "
            "(docs/operations/upgrade.md)",
        )


def pages(
    client: SyncPrefectClient,
    route: ServerRoutes,
    body: dict[str, Any] | None = None,
    **path_params: str,
) -> Iterator[dict[str, Any]]:
    """Yield every item of a filter route, page by page."""
    offset = 0
    while True:
        page: list[dict[str, Any]] = client.request(
            "POST",
            route,
            path_params=path_params,
            json={**(body or {}), "limit": _PAGE, "offset": offset},
        ).json()
        yield from page
        if len(page) < _PAGE:
            return
        offset += len(page)


def delete(client: SyncPrefectClient, route: ServerRoutes, **path_params: object) -> None:
    """Delete the resource at `route`; it is no error if it does not exist."""
    try:
        client.request("DELETE", route, path_params=path_params)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
