"""Wait until the API is at least as new as the worker and knows its work pool.

Runs as an init container of the worker. A worker that starts while the API is down loses its
observer for a minute or for good; a worker without its pool polls in vain; and an older API may not
know the requests of a newer worker.
"""

import argparse
import asyncio
import os
import re
from importlib.metadata import version

import httpx

from prefect_platform import container
from prefect_platform.api_authentication import PodToken, authentication
from prefect_platform.api_certificate import refuse_untrusted, verification
from prefect_platform.api_failures import MISSING_POOL
from prefect_platform.container import NotYet, wait_for
from prefect_platform.errors import PlatformError

_REQUEST_SECONDS = 10.0
_OWN = version("prefect")
_RELEASE = re.compile(r'"(\d+\.\d+\.[^"]+)"')  # a JSON string


async def await_work_pool(
    name: str, *, api_url: str, auth: httpx.Auth | None, timeout: float
) -> None:
    """Return when the API has this Prefect version or a newer one, and knows the work pool `name`.

    Only major and minor version are compared. Each of the two waits may take `timeout` seconds.
    Raises PlatformError when one of them takes longer, when the API refuses `auth`, and when its
    certificate is not trusted.
    """
    async with httpx.AsyncClient(
        auth=auth, timeout=_REQUEST_SECONDS, verify=verification()
    ) as client:

        async def get(path: str) -> httpx.Response:
            try:
                response = await client.get(f"{api_url}/{path}")
            except httpx.TransportError as error:
                refuse_untrusted(api_url, error)
                raise NotYet(f"{api_url} does not answer ({error})") from error
            if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise _refused(api_url, auth)
            if not response.is_success and response.status_code != httpx.codes.NOT_FOUND:
                raise NotYet(f"the API answered {response.status_code}")
            return response

        async def is_new_enough() -> None:
            server = _RELEASE.fullmatch((await get("admin/version")).text)
            if server is None:
                raise NotYet("the server at this address is not a Prefect API")
            if _minor(server[1]) < _minor(_OWN):
                raise NotYet(
                    f"it runs Prefect {server[1]}, which is older than this worker's {_OWN}"
                )

        async def knows_the_pool() -> None:
            if not (await get(f"work_pools/{name}")).is_success:
                raise NotYet("the API does not know it")

        await wait_for(
            f"the API {api_url}",
            is_new_enough,
            timeout=timeout,
            next_step="make status; upgrade an older server before its workers "
            "(docs/operations/upgrade.md)",
        )
        await wait_for(
            f"the work pool {name}", knows_the_pool, timeout=timeout, next_step=MISSING_POOL
        )
    container.say(f"The work pool {name} exists")


def _minor(release: str) -> tuple[int, int]:
    major, minor, *_ = release.split(".")
    return int(major), int(minor)


def _refused(api_url: str, auth: httpx.Auth | None) -> PlatformError:
    if isinstance(auth, PodToken):
        return PlatformError(
            f"The API {api_url} refused the token of the worker's pod",
            next_step="read why: kubectl --namespace prefect logs --selector "
            "app.kubernetes.io/component=api --tail=-1 | grep run_identity",
        )
    return PlatformError(
        f"The API {api_url} refused the auth string of the worker",
        next_step="copy the auth string of the server's Secret into the worker's Secret",
    )


def main() -> None:
    """Wait for the API that Prefect's own settings name."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.worker.work_pool")
    parser.add_argument("name")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    arguments = parser.parse_args()
    asyncio.run(
        await_work_pool(
            arguments.name,
            api_url=os.environ["PREFECT_API_URL"].rstrip("/"),
            auth=authentication(),
            timeout=arguments.timeout,
        )
    )


if __name__ == "__main__":
    container.run(main)
