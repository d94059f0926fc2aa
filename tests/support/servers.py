"""Real servers on loopback, in an environment without the developer's own settings."""

import hashlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect.client.base import PrefectHttpxSyncClient

from prefect_platform_cli.host.paths import cache_directory

REPOSITORY = Path(__file__).resolve().parents[2]
ACCESS_KEY = "tests"
SECRET_KEY = "of-the-flows"

_CREDENTIALS = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
_EVERYTHING = ["Admin", "Read", "Write", "List"]
_OWNER = {"name": "tests", "actions": _EVERYTHING, "credentials": [_CREDENTIALS]}
_HELD: list[socket.socket] = []
CONNECTION = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
# A copied database is complete, and checking that takes 40 % of the processor time of a start.
PREPARED = {
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}
_PLUGINS = "src/prefect_platform/plugins"
_STARTS_WITHIN = 300.0  # seconds, enough for a busy machine
# Prefect answers 500 if its database takes longer: by default 10 s, and 5 s to connect.
_PATIENT = {
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
}


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment that a process needs, without any of the developer's own settings.

    `home` replaces the home directory, where Prefect would find the developer's profiles.
    """
    inherited = {
        name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ
    }
    return {
        **inherited,
        "HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **more,
    }


def free_ports(count: int) -> list[int]:
    """Return free ports on loopback, which the kernel assigns to no other process.

    They stay bound until this process ends. A server that names one of them and sets SO_REUSEADDR,
    as servers do, can listen on it at any time. A program that asks for any free port gets another.
    """
    sockets = [socket.socket() for _ in range(count)]
    for holder in sockets:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
    _HELD.extend(sockets)
    return [holder.getsockname()[1] for holder in sockets]


@contextmanager
def object_store(directory: Path, **policies: str) -> Iterator[dict[str, str]]:
    """Start SeaweedFS with data in `directory`; yield the environment variables for a client.

    Each of `policies`, an IAM policy document, adds a user with the rights that it grants. Its name
    is the name and both keys of the user.
    """
    users = [
        {
            "name": name,
            "policyNames": [name],
            "credentials": [{"accessKey": name, "secretKey": name}],
        }
        for name in policies
    ]
    documents = [{"name": name, "content": policy} for name, policy in policies.items()]
    identities = json.dumps({"identities": [_OWNER, *users], "policies": documents})
    with object_store_process(directory, identities) as (_, variables):
        yield variables


@contextmanager
def object_store_process(
    directory: Path, identities: str
) -> Iterator[tuple["subprocess.Popen[bytes]", dict[str, str]]]:
    """Start SeaweedFS with `identities`; yield its process and the variables for a client."""
    configuration = directory / "s3.json"
    configuration.write_text(identities)
    parts = ("master.port", "volume.port", "filer.port", "s3.port")
    names = [name for part in parts for name in (part, f"{part}.grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        str(Path(sys.executable).with_name("weed")),
        "-logtostderr",
        "server",
        f"-dir={directory}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *[f"-{name}={port}" for name, port in ports.items()],
        "-s3",
        f"-s3.config={configuration}",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={directory}/s3.sock",
        f"-filer.localSocket={directory}/filer.sock",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=100",
    ]
    variables = {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3.port']}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    try:
        # It is killed, because it has nothing to save and takes long to shut down gracefully.
        with running(directory / "log", ports["s3.port"], *command) as server:
            yield server, variables
    finally:
        for part in ("master", "volume", "filer", "s3"):
            socket_file = f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.port.grpc']}.sock"  # noqa: S108
            Path(socket_file).unlink(missing_ok=True)


@contextmanager
def prefect_server(directory: Path, port: int = 0, /, **settings: str) -> Iterator[str]:
    """Start a Prefect server with its own database in `directory`; yield the URL of its API.

    With `port` 0, any free port is used. `settings` are additional environment variables. Unless
    they name a database, the server starts with a copy of the one that a first start creates, to
    save time.
    """
    database = directory / "prefect" / "prefect.db"
    if CONNECTION not in settings and not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        database.write_bytes(prepared("prefect.db", _save_new_database).read_bytes())
        settings = {**PREPARED, **settings}
    with _started(directory, port or free_ports(1)[0], settings) as url:
        yield url


def prepared(name: str, save: Callable[[Path], None]) -> Path:
    """Return a file of a new database, which `save` writes to the path it is given.

    It is kept for all later runs with the same packages and plugins, which define the tables and
    the block types.
    """
    made_of = [REPOSITORY / "uv.lock", *sorted((REPOSITORY / _PLUGINS).glob("*.py"))]
    content = hashlib.sha256(b"".join(each.read_bytes() for each in made_of)).hexdigest()
    kept = cache_directory() / "prefect-databases" / content[:12] / name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=kept.parent) as folder:
            save(Path(folder, name))
            Path(folder, name).replace(kept)  # at once, because another worker may save it too
    return kept


def _save_new_database(path: Path) -> None:
    home = path.parent
    with _started(home, free_ports(1)[0], {}):
        database = home / "prefect" / "prefect.db"
        with closing(sqlite3.connect(database)) as made:
            path.write_bytes(made.serialize())


@contextmanager
def _started(directory: Path, port: int, settings: Mapping[str, str]) -> Iterator[str]:
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect", "server", "start"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            env=clean_environment(directory, **_PATIENT, **settings),
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(server, partial(listening, port), directory / "log")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        server.terminate()
        server.wait()


def api_client(url: str) -> PrefectHttpxSyncClient:
    """Return a client of the API at `url` that raises httpx.HTTPStatusError for error responses.

    Like every Prefect client, it retries after a 503. The server answers with that status while
    another writer holds the lock on the SQLite database.
    """
    return PrefectHttpxSyncClient(base_url=url, timeout=60)


def listening(port: int) -> bool:
    """Return whether a server on loopback accepts connections on `port`."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def running(
    log: Path, port: int, *command: str | Path, env: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program while the block runs, which starts once the program listens on `port`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        wait_for(process, partial(listening, port), log)
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(server: "subprocess.Popen[bytes]", ready: Callable[[], bool], log: Path) -> None:
    """Wait until `ready` returns true.

    Raises RuntimeError with the end of `log` if the server ends, or is not ready in time.
    """
    deadline = time.monotonic() + _STARTS_WITHIN
    while not ready():
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.1)
            raise RuntimeError(f"{server.args!r} ended: {log.read_text()[-2000:]}")
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{server.args!r} is not ready in {_STARTS_WITHIN:.0f} s: {log.read_text()[-2000:]}"
            )
