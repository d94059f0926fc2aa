"""Calls of the API during a fault, when it may be away."""

from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectHTTPStatusError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.connection import connected
from tests.chaos.target import Target
from tests.cluster.deployed import eventually

_T = TypeVar("_T")


def when_possible(call: Callable[[], _T]) -> _T:
    """Make a call of the API, and repeat it while the API is away."""
    return Retrying(
        retry=retry_if_exception(_is_away),
        stop=stop_after_delay(600),
        wait=wait_fixed(1),
        reraise=True,
    )(call)


def call_when_possible(target: Target, call: Callable[[SyncPrefectClient], _T]) -> _T:
    """Make a call with a client of its own, because threads cannot share one."""

    def attempt() -> _T:
        with connected(target.kubectl) as prefect:
            return call(prefect)

    return when_possible(attempt)


def await_state(target: Target, run_id: UUID, state: str) -> None:
    """Wait until a run has the state with this name."""

    def has_it() -> bool:
        run = call_when_possible(target, lambda prefect: prefect.read_flow_run(run_id))
        return run.state_name == state

    eventually(f"the run is {state}", has_it, within=300)


def _is_away(error: BaseException) -> bool:
    if isinstance(error, PrefectHTTPStatusError):
        return error.response.is_server_error
    return isinstance(error, httpx.TransportError | PlatformError)
