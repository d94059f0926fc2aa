"""A real Redis on loopback, from Debian's package."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support import servers
from tests.support.requirements import require_packages


@contextmanager
def redis_server(home: Path, password: str) -> Iterator[int]:
    """Start a server that requires `password`, with its log in `home`; yield its port."""
    command = ["redis-server", "--requirepass", password, "--save", ""]
    with redis_process(home, command) as port:
        yield port


@contextmanager
def redis_process(
    home: Path, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run `command`, which starts a server and accepts its options, in `home`; yield its port."""
    require_packages("redis-server")
    (port,) = servers.free_ports(1)
    log = home / "redis.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)],
            env=servers.clean_environment(home, **(environment or {})),
            stdout=output,
            stderr=output,
        )
    try:
        servers.wait_for(server, partial(servers.listening, port), log)
        yield port
    finally:
        server.terminate()
        server.wait()
