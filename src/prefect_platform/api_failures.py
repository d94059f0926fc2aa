"""What a request to Prefect's API that failed means to whoever reads it: one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from prefect_platform.errors import PlatformError

_REFUSALS = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


@dataclass(frozen=True)
class NextSteps:
    """What to do about an API that does not answer, that refuses us, or that has an error."""

    away: str
    refused: str
    failed: str


IN_A_POD = NextSteps(
    away="look at the API's pods, and at api.url and networkPolicies.api of the chart",
    refused="make the Secret of the worker equal to the one of the server",
    failed="look at the logs of the API",
)
"""For the pods of the worker's chart."""

MISSING_POOL = (
    "where the release is given configuration.platform, the configuration's Job makes the pools "
    "that work_pools of that file names: read its log, or run prefect-platform apply "
    "(docs/operations/configuration.md); where it is not, create the pool as `helm get notes` of "
    "the release says"
)
"""What to do about a work pool that the API does not know."""


@contextmanager
def describe(api_url: str, next_steps: NextSteps) -> Iterator[None]:
    """Raise PlatformError for an API at `api_url` that is away or that refuses a request."""
    try:
        yield
    except httpx.TransportError as error:
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
    """Return what the server says about a refused request, in one line."""
    try:
        said = response.json()
    except ValueError:
        said = response.text
    if isinstance(said, dict):
        said = said.get("exception_detail") or said.get("detail") or said
    if isinstance(said, list):  # pydantic's errors, which hold what was sent, secrets included
        said = "; ".join(
            f"{each.get('loc')}: {each.get('msg')}" if isinstance(each, dict) else str(each)
            for each in said
        )
    return f"{response.status_code} {str(said)[:500]}"
