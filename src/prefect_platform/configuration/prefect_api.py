"""The Prefect API as a client of it: never the profile of whoever runs the command."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    temporary_settings,
)


@contextmanager
def prefect_api(url: str, auth_string: str) -> Iterator[SyncPrefectClient]:
    """Yield a client of the API at `url`; all of Prefect uses that API inside the block."""
    with (
        tempfile.TemporaryDirectory(prefix="prefect-") as home,
        temporary_settings(
            {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth_string, PREFECT_HOME: home}
        ),
        SyncPrefectClient(url, auth_string=auth_string) as client,
    ):
        yield client
