"""A real Redis on loopback, from Debian's package."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support import servers
from tests.support.requirements import require_packages


@contextmanager
def redis_server(home: Path, password: str) -> Iterator[int]:
    """Start a server that requires `password`, with its log in `home`; yield its port."""
    require_packages("redis-server")
    (port,) = servers.free_ports(1)
    log = home / "redis.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *("redis-server", "--port", str(port), "--bind", "127.0.0.1"),
                *("--requirepass", password, "--save", "", "--dir", str(home)),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        servers.wait_for(server, partial(servers.listening, port), log)
        yield port
    finally:
        server.terminate()
        server.wait()
