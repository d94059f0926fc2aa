"""Wait for a work pool before its worker starts.

A worker that starts while the API is away loses its observer of job pods for a minute or for
good, and one without its pool polls for nothing; so its pod waits here, calmly and cheaply.
"""

import argparse
import asyncio
import os

import httpx

from prefect_platform import container
from prefect_platform.api_failures import MISSING_POOL
from prefect_platform.container import NotYet, wait_for
from prefect_platform.errors import PlatformError

_REQUEST_SECONDS = 10.0


async def await_work_pool(
    name: str, *, api_url: str, auth_string: str | None, timeout: float
) -> None:
    """Return when the API knows the work pool `name`.

    Raises PlatformError when it does not within `timeout` seconds, or refuses `auth_string`
    ("user:password").
    """
    user, _, password = (auth_string or "").partition(":")
    auth = httpx.BasicAuth(user, password) if auth_string else None

    async with httpx.AsyncClient(auth=auth, timeout=_REQUEST_SECONDS) as client:

        async def check() -> None:
            try:
                response = await client.get(f"{api_url}/work_pools/{name}")
            except httpx.TransportError as error:
                raise NotYet(f"{api_url} does not answer ({error})") from error
            if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise PlatformError(
                    f"The API {api_url} refused the auth string of the worker",
                    next_step="make the Secret of the worker equal to the one of the server",
                )
            if response.status_code == httpx.codes.NOT_FOUND:
                raise NotYet("the API does not know it")
            if not response.is_success:
                raise NotYet(f"the API answered {response.status_code}")

        await wait_for(
            f"the work pool {name}",
            check,
            timeout=timeout,
            next_step=MISSING_POOL,
        )
    container.say(f"The work pool {name} is there")


def main() -> None:
    """Read the API's address from Prefect's own settings and wait."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.worker.work_pool")
    parser.add_argument("name")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    arguments = parser.parse_args()
    asyncio.run(
        await_work_pool(
            arguments.name,
            api_url=os.environ["PREFECT_API_URL"].rstrip("/"),
            auth_string=os.environ.get("PREFECT_API_AUTH_STRING"),
            timeout=arguments.timeout,
        )
    )


if __name__ == "__main__":
    container.run(main)
