"""Wait until Redis accepts commands, before the API or the background services start.

Prefect would start without Redis and fail later, far from the cause. The URL is read from
PREFECT_SERVER_DOCKET_URL.
"""

import argparse
import asyncio
import os

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from prefect_platform import container
from prefect_platform.container import NotYet, wait_for
from prefect_platform.errors import PlatformError

_URL = "PREFECT_SERVER_DOCKET_URL"
_CONNECT_SECONDS = 5.0


async def await_redis(url: str, *, timeout: float) -> None:
    """Return when the server answers PING.

    Raises PlatformError when it does not answer within `timeout` seconds, when it refuses the
    password, and when `url` is not a Redis URL. No message contains the URL, because the password
    is part of it.
    """
    client = _client(url)
    settings = client.connection_pool.connection_kwargs
    name = f"Redis at {settings.get('host')}:{settings.get('port')}"

    async def check() -> None:
        try:
            await client.ping()
        except (AuthenticationError, ResponseError) as error:
            raise PlatformError(
                f"{name} refused the password: {error}",
                next_step="compare redis.passwordSecret, or the URL of redis.external.urlSecret, "
                "with the password of the server",
            ) from error
        except (OSError, RedisError) as error:
            raise NotYet(f"it does not answer ({type(error).__name__})") from error

    try:
        await wait_for(
            name,
            check,
            timeout=timeout,
            next_step="kubectl get pods -l app.kubernetes.io/component=redis",
        )
    finally:
        await client.aclose()
    container.say(f"{name} answers")


def _client(url: str) -> Redis:
    problem = PlatformError(
        "The URL of Redis is not redis://USER:PASSWORD@HOST:PORT/DB or rediss://..., each part "
        "URL-encoded and without a query",
        next_step="correct the Secret of redis.external.urlSecret, or of redis.passwordSecret: "
        "letters, digits and - _ . ~ need no encoding",
    )
    try:
        client = Redis.from_url(
            url, socket_timeout=_CONNECT_SECONDS, socket_connect_timeout=_CONNECT_SECONDS
        )
        # Checks the query parameters of the URL without connecting.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        raise problem from None
    if not client.connection_pool.connection_kwargs.get("host"):
        raise problem
    return client


def main() -> None:
    """Wait for the Redis that Prefect's own setting names."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.server.redis_server")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    arguments = parser.parse_args()
    asyncio.run(await_redis(os.environ[_URL], timeout=arguments.timeout))


if __name__ == "__main__":
    container.run(main)
