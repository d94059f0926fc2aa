"""Connections to the database use TLS as the environment requires, or are refused at once."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.server.database.configurations import AsyncPostgresConfiguration
from sqlalchemy import text

from prefect_platform.errors import PlatformError
from prefect_platform.server import database
from prefect_platform.server.database import DatabaseTarget, Migration, Revisions
from tests.integration.server.certificates import Authority
from tests.support.postgres import execute, postgres, serve
from tests.support.requirements import require_packages

_HOST = "127.0.0.1"
_PASSWORD = "of-the-owner"
_REVISIONS = Revisions("newest", {"newest": Migration()})
_WITH_CERTIFICATE = b"hostssl all all all scram-sha-256 clientcert=verify-ca\n"


class Files:
    """The authority of the servers, another authority, and a client certificate."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority("ours")
        self.ca, self.other_ca = directory / "ca.crt", directory / "other.crt"
        self.ca.write_bytes(self.authority.pem)
        self.other_ca.write_bytes(Authority("a stranger").pem)
        self.client = (directory / "client.crt", directory / "client.key")
        for path, content in zip(self.client, self.authority.issue("owner"), strict=True):
            path.write_bytes(content)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def programs() -> Path:
    """Return the directory of Debian's PostgreSQL; the one from the package index lacks TLS."""
    require_packages("postgresql")
    return max(Path("/usr/lib/postgresql").glob("*/bin"))


def server(
    files: Files, programs: Path, host: str, more_files: dict[str, bytes] | None = None
) -> Iterator[DatabaseTarget]:
    """Start a server with TLS and a certificate for `host`."""
    certificate, key = files.authority.issue(host)
    with serve(
        programs,
        "owner",
        _PASSWORD,
        settings={
            "ssl": "on",
            "ssl-cert-file": "server.crt",
            "ssl-key-file": "server.key",
            "ssl-ca-file": "ca.crt",
        },
        files={
            "server.crt": certificate,
            "server.key": key,
            "ca.crt": files.authority.pem,
            **(more_files or {}),
        },
    ) as port:
        yield DatabaseTarget(_HOST, port, "postgres", "owner", _PASSWORD)


@pytest.fixture(scope="module")
def encrypted(files: Files, programs: Path) -> Iterator[DatabaseTarget]:
    """Return a server with TLS, at the newest revision."""
    for target in server(files, programs, _HOST):
        asyncio.run(
            execute(target, "CREATE TABLE alembic_version AS SELECT 'newest' AS version_num")
        )
        yield target


@pytest.fixture(scope="module")
def with_other_host(files: Files, programs: Path) -> Iterator[DatabaseTarget]:
    """Return a server whose certificate is for another host."""
    yield from server(files, programs, "db.example.org")


@pytest.fixture(scope="module")
def with_client_certificates(files: Files, programs: Path) -> Iterator[DatabaseTarget]:
    """Return a server that requires client certificates."""
    yield from server(files, programs, _HOST, {"pg_hba.conf": _WITH_CERTIFICATE})


@pytest.fixture(scope="module")
def plain() -> Iterator[DatabaseTarget]:
    """Return a server without TLS."""
    with postgres("owner", _PASSWORD) as port:
        yield DatabaseTarget(_HOST, port, "postgres", "owner", _PASSWORD)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's own certificates from the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MODE", "ROOTCERT", "CERT", "KEY"):
        monkeypatch.delenv(f"PGSSL{name}", raising=False)


def await_migrations(target: DatabaseTarget) -> None:
    """Wait for the migrations, as the init container does."""
    asyncio.run(database.await_migrations(target, _REVISIONS, timeout=20))


def refusal(target: DatabaseTarget) -> str:
    """Return the error with which the wait ended at once; fail if it ended by its timeout."""
    with pytest.raises(PlatformError) as refused:
        await_migrations(target)
    assert "Gave up waiting" not in refused.value.message
    return str(refused.value)


def url(target: DatabaseTarget, query: str = "") -> str:
    return f"postgresql+asyncpg://owner:{_PASSWORD}@{_HOST}:{target.port}/postgres{query}"


async def is_encrypted_for_prefect(target: DatabaseTarget) -> bool:
    """Return whether the server reports TLS for a connection of Prefect's own engine."""
    engine = await AsyncPostgresConfiguration(connection_url=url(target)).engine()
    async with engine.connect() as connection:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        encrypted = bool((await connection.execute(text(query))).scalar_one())
    await engine.dispose()
    return encrypted


def test_a_server_of_the_configured_authority_is_accepted(
    encrypted: DatabaseTarget, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(files.ca))
    await_migrations(encrypted)
    assert asyncio.run(is_encrypted_for_prefect(encrypted))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_server_of_another_authority_is_refused_at_once(
    encrypted: DatabaseTarget, files: Files, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("PGSSLMODE", mode)
    monkeypatch.setenv("PGSSLROOTCERT", str(files.other_ca))
    sentence = refusal(encrypted)
    assert f"Cannot connect to the database {encrypted} with the configured TLS: " in sentence
    assert "certificate" in sentence
    assert "Next: correct database.external.tls" in sentence


def test_a_certificate_for_another_host_is_refused_at_once(
    with_other_host: DatabaseTarget, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(files.ca))
    assert "not valid for '127.0.0.1'" in refusal(with_other_host)


def test_a_server_without_tls_is_refused_at_once(
    plain: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    assert re.search(r"with the configured TLS: .* rejected SSL upgrade", refusal(plain))


def test_the_client_certificate_is_sent_to_a_server_that_requires_one(
    with_client_certificates: DatabaseTarget, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = files.client
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGSSLCERT", str(certificate))
    monkeypatch.setenv("PGSSLKEY", str(key))
    assert asyncio.run(is_encrypted_for_prefect(with_client_certificates))


def test_the_wait_ends_at_once_if_a_required_client_certificate_is_missing(
    with_client_certificates: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    assert "requires a valid client certificate" in refusal(with_client_certificates)


def test_a_verifying_mode_without_an_authority_is_refused_at_once(
    encrypted: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert re.search(r"root certificate file .* does not exist", refusal(encrypted))


def test_tls_settings_of_a_connection_url_override_the_environment(
    plain: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    given = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url(plain, "?ssl=require")}
    assert "rejected SSL upgrade" in refusal(DatabaseTarget.from_environment(given))
