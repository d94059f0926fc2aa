"""Explain failed requests to Prefect's API in one sentence, with the next step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from prefect_platform.api_certificate import refuse_untrusted
from prefect_platform.errors import PlatformError

_REFUSALS = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


@dataclass(frozen=True)
class NextSteps:
    """What to do about an API that does not answer, refuses the login, or reports an error."""

    away: str
    refused: str
    failed: str


IN_A_POD = NextSteps(
    away="check the API's pods, and the values api.url and networkPolicies.api of prefect-worker",
    refused="read why: kubectl --namespace prefect logs --selector "
    "app.kubernetes.io/component=api --tail=-1 | grep run_identity; without run identity, copy the "
    "auth string of the server's Secret into the worker's Secret",
    failed="read the logs of the API",
)
"""The next steps for programs that run in pods of the chart prefect-worker."""

MISSING_POOL = (
    "if the release sets configuration.platform, its configuration Job creates the pools that are "
    "declared there under work_pools: read the Job's log, or run prefect-platform apply "
    "(docs/operations/configuration.md); otherwise, create the pool with the command that `helm "
    "get notes` prints for the release"
)
"""What to do when the API does not know a work pool."""


@contextmanager
def describe(api_url: str, next_steps: NextSteps) -> Iterator[None]:
    """Turn httpx's errors into PlatformError: the API at `api_url` is away or refuses a request.

    Only `httpx.TransportError` and `httpx.HTTPStatusError` are turned; others pass through.
    """
    try:
        yield
    except httpx.TransportError as error:
        refuse_untrusted(api_url, error)
        raise PlatformError(
            f"{api_url} does not answer: {type(error).__name__} {error}".rstrip(),
            next_step=next_steps.away,
        ) from error
    except httpx.HTTPStatusError as error:
        refused = error.response.status_code in _REFUSALS
        asked = f"{error.request.method} {error.request.url.path}"
        said = detail(error.response)
        raise PlatformError(
            f"{api_url} refused {asked}: {said}"
            if refused
            else f"{api_url} answered {asked} with {said}",
            next_step=next_steps.refused if refused else next_steps.failed,
        ) from error


def detail(response: httpx.Response) -> str:
    """Return the status code and the server's reason for refusing a request, in one line.

    The reason is cut after 500 characters.
    """
    try:
        said = response.json()
    except ValueError:
        said = response.text
    if isinstance(said, dict):
        said = said.get("exception_detail") or said.get("detail") or said
    if isinstance(said, list):  # pydantic's errors; `input` is left out, as it may hold a secret
        said = "; ".join(
            f"{each.get('loc')}: {each.get('msg')}" if isinstance(each, dict) else str(each)
            for each in said
        )
    return f"{response.status_code} {str(said)[:500]}"
