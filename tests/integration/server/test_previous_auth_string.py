"""The API accepts the previous auth string in addition to the new one, if one is set."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prefect.events.clients import PrefectEventsClient
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from tests.support import servers

_NEW, _OLD = "admin:of-today", "admin:of-yesterday"

Start = Callable[[str], str]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Return a function that starts a server with a previous auth string and returns its URL."""
    with ExitStack() as running:

        def server(previous: str) -> str:
            folder: Path = tmp_path_factory.mktemp("server")
            started = servers.prefect_server(
                folder,
                PREFECT_PLUGINS_ENABLED="true",
                PREFECT_PLUGINS_ALLOW="previous-auth-string",
                PREFECT_SERVER_API_AUTH_STRING=_NEW,
                PREVIOUS_API_AUTH_STRING=previous,
            )
            return running.enter_context(started)

        yield server


@pytest.fixture(scope="module")
def url(start: Start) -> str:
    return start(_OLD)


def _status(url: str, auth: str) -> int:
    user, _, password = auth.partition(":")
    return httpx.get(f"{url}/admin/version", auth=(user, password)).status_code


async def _connect(url: str) -> None:
    # By default, the client tries again after a refusal.
    async with PrefectEventsClient(url, reconnection_attempts=0):
        pass


@pytest.mark.parametrize("auth", [_NEW, _OLD])
def test_both_auth_strings_are_accepted_by_the_api_and_its_events(url: str, auth: str) -> None:
    with temporary_settings({PREFECT_API_AUTH_STRING: auth}):
        asyncio.run(_connect(url))

    assert _status(url, auth) == httpx.codes.OK


@pytest.mark.parametrize("auth", ["admin:of-somebody", "admin:", "admin:of-yesterday "])
def test_any_other_auth_string_is_refused(url: str, auth: str) -> None:
    with (
        temporary_settings({PREFECT_API_AUTH_STRING: auth}),
        pytest.raises(Exception, match=r"(?i)auth|token"),
    ):
        asyncio.run(_connect(url))

    assert _status(url, auth) == httpx.codes.UNAUTHORIZED


def test_an_empty_previous_auth_string_does_not_accept_empty_credentials(start: Start) -> None:
    # The server decodes this header to an empty string.
    answer = httpx.get(f"{start('')}/admin/version", headers={"Authorization": "Basic ===="})

    assert answer.status_code == httpx.codes.UNAUTHORIZED
