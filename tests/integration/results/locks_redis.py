"""The Redis of result locks, with the users of the documentation or of the local environment."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from ruamel.yaml import YAML

from prefect_platform_cli.host.paths import REPOSITORY
from tests.integration.server.redis_server import redis_process
from tests.support.documented import block

_PASSWORD = "of-the-locks"
# The users of the platform include no administrator. Tests need one to see what Redis refused.
_ADMINISTRATOR = "tests on nopass ~* &* +@all"


@dataclass(frozen=True)
class LocksRedis:
    """A running server: its port, and the folder with all its files."""

    port: int
    home: Path

    @property
    def url(self) -> str:
        """Return the value of RESULT_LOCKS_URL."""
        return f"redis://result-locks:{_PASSWORD}@127.0.0.1:{self.port}/0"

    # The types of the redis library are unions of the answers of all its versions and protocols.
    def client(self) -> Any:  # noqa: ANN401
        """Return a client of the user of the locks."""
        return Redis.from_url(self.url)

    def administrator(self) -> Any:  # noqa: ANN401
        """Return a client that may run every command."""
        return Redis.from_url(f"redis://tests:any@127.0.0.1:{self.port}/0")


def documented_users() -> str:
    """Return the users on the page about results, as an ACL file for our password."""
    text = block("operations/results.md", "## Restrict the user of the locks", "text")
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join(lines).replace("SHA256", hashlib.sha256(_PASSWORD.encode()).hexdigest())


@contextmanager
def documented(home: Path) -> Iterator[LocksRedis]:
    """Start Redis with the users on the page about results."""
    users = home / "users.acl"
    users.write_text(f"{documented_users()}\nuser {_ADMINISTRATOR}\n")
    with redis_process(home, ["redis-server", "--save", "", "--aclfile", str(users)]) as port:
        yield LocksRedis(port, home)


@contextmanager
def deployed(home: Path) -> Iterator[LocksRedis]:
    """Start Redis with the command of the local environment, which writes to `home` here."""
    manifest = REPOSITORY / "k8s/environments/local/data/result-locks.yaml"
    deployment = next(iter(YAML(typ="safe").load_all(manifest)))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    command = [part.replace("/tmp/", f"{home}/") for part in container["command"]]  # noqa: S108
    options = [*container["args"], "--user", *_ADMINISTRATOR.split()]
    environment = {container["env"][0]["name"]: _PASSWORD}
    with redis_process(home, [*command, *options], environment) as port:
        yield LocksRedis(port, home)
