"""The wait for Redis ends when Redis answers, or fails with what to correct."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform.server.redis_server import await_redis
from tests.support.servers import free_ports


class _Server(threading.Thread):
    """Speaks just enough of the Redis protocol for a greeting; the cluster tests use real Redis."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(daemon=True)
        self.answer = answer
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]

    def run(self) -> None:
        try:
            while True:
                connection, _ = self.socket.accept()
                while received := connection.recv(4096):
                    connection.sendall(self.answer * max(1, received.count(b"*")))
        except OSError:
            return


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Yield the port of a server that answers every command with the parameter."""
    server = _Server(request.param)
    server.start()
    yield server.port
    server.socket.close()


@pytest.mark.parametrize("port", [b"+PONG\r\n"], indirect=True)
def test_a_server_that_answers_ends_the_wait(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(await_redis(f"redis://127.0.0.1:{port}/0?max_connections=5000", timeout=5))
    assert f"Redis at 127.0.0.1:{port} answers" in capsys.readouterr().err


@pytest.mark.parametrize("port", [b"-WRONGPASS invalid username-password pair\r\n"], indirect=True)
def test_a_refused_password_ends_the_wait_immediately_and_is_not_printed(port: int) -> None:
    with pytest.raises(PlatformError, match="refused the password") as refused:
        asyncio.run(await_redis(f"redis://:hidden@127.0.0.1:{port}/0", timeout=60))
    assert "hidden" not in str(refused.value)


def test_the_wait_for_an_unreachable_server_times_out() -> None:
    (port,) = free_ports(1)
    with pytest.raises(PlatformError, match=r"Gave up waiting for Redis .* after 1 s"):
        asyncio.run(await_redis(f"redis://127.0.0.1:{port}/0", timeout=1))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://127.0.0.1",
        "redis://:a/b@127.0.0.1:6379/0",
        "redis://127.0.0.1:6379/0?a=b?max_connections=5000",
    ],
)
def test_an_invalid_url_is_refused_and_not_printed(url: str) -> None:
    with pytest.raises(PlatformError, match="URL-encoded") as refused:
        asyncio.run(await_redis(url, timeout=1))
    assert not url or url not in str(refused.value)
