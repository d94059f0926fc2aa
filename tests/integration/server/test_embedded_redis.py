"""The chart's Redis accepts the password of its Secret, and refuses writes when it is full."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from tests.integration.server.redis_server import redis_process
from tests.support.rendering import STORIES, find, objects

_LIMIT = 16 * 2**20


@contextmanager
def embedded_redis(home: Path, password: str) -> Iterator[Redis]:
    """Start Redis as in the chart's container, and yield a client with the URL of the API."""
    rendered = objects(STORIES["server-ha"])
    (container,) = find(rendered, "StatefulSet", "redis")["spec"]["template"]["spec"]["containers"]
    (api,) = find(rendered, "Deployment", "api")["spec"]["template"]["spec"]["containers"]
    (url,) = [each["value"] for each in api["env"] if each["name"] == "PREFECT_SERVER_DOCKET_URL"]
    command = [
        part.replace("/tmp/", f"{home}/").replace("/data", str(home))  # noqa: S108
        for part in [*container["command"], *container["args"]]
    ]
    environment = {"REDIS_PASSWORD": password, "MEMORY_LIMIT": str(_LIMIT)}
    assert environment.keys() == {each["name"] for each in container["env"]}
    with redis_process(home, command, environment) as port:
        url = url.replace("$(REDIS_PASSWORD)", password)
        yield Redis.from_url(url.replace("prefect-server-redis:6379", f"127.0.0.1:{port}"))


@pytest.mark.parametrize("password", ["letters-2", 'a"b', r"a\b", "line\n"], ids=ascii)
def test_every_password_that_a_url_can_carry_is_accepted(tmp_path: Path, password: str) -> None:
    with embedded_redis(tmp_path, password) as redis:
        assert redis.ping()


def test_writes_are_refused_before_the_memory_limit_is_reached_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    with embedded_redis(tmp_path, "letters-2") as redis:
        assert redis.config_get("maxmemory") == {"maxmemory": str(_LIMIT // 100 * 60)}
        events = [f"event:{number}" for number in range(_LIMIT // 2**16)]
        with pytest.raises(OutOfMemoryError):
            any(not redis.set(event, b"x" * 2**16) for event in events)
        stored = redis.dbsize()
        assert 0 < stored == redis.exists(*events[:stored])
        assert redis.info("memory")["used_memory"] < _LIMIT
