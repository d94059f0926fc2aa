"""TLS to the database is what the environment asks for, or it is refused at once."""

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
    """The authority of the servers, one that signed none of them, and a client's certificate."""

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
    """Return where Debian's server is: the one from the package index was built without TLS."""
    require_packages("postgresql")
    return max(Path("/usr/lib/postgresql").glob("*/bin"))


def server(
    files: Files, programs: Path, host: str, more_files: dict[str, bytes] | None = None
) -> Iterator[DatabaseTarget]:
    """Start a server with TLS, whose certificate is for `host`."""
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
def elsewhere(files: Files, programs: Path) -> Iterator[DatabaseTarget]:
    """Return a server whose certificate is another host's."""
    yield from server(files, programs, "db.example.org")


@pytest.fixture(scope="module")
def with_certificates(files: Files, programs: Path) -> Iterator[DatabaseTarget]:
    """Return a server that asks its clients for a certificate."""
    yield from server(files, programs, _HOST, {"pg_hba.conf": _WITH_CERTIFICATE})


@pytest.fixture(scope="module")
def plain() -> Iterator[DatabaseTarget]:
    """Return a server without TLS."""
    with postgres("owner", _PASSWORD) as port:
        yield DatabaseTarget(_HOST, port, "postgres", "owner", _PASSWORD)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave the developer's own certificates out of it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MODE", "ROOTCERT", "CERT", "KEY"):
        monkeypatch.delenv(f"PGSSL{name}", raising=False)


def await_migrations(target: DatabaseTarget) -> None:
    """Wait as the init container does."""
    asyncio.run(database.await_migrations(target, _REVISIONS, timeout=20))


def refusal(target: DatabaseTarget) -> str:
    """Return why the wait ended at once; fail when it went on until it gave up."""
    with pytest.raises(PlatformError) as refused:
        await_migrations(target)
    assert "Gave up waiting" not in refused.value.message
    return str(refused.value)


def url(target: DatabaseTarget, query: str = "") -> str:
    return f"postgresql+asyncpg://owner:{_PASSWORD}@{_HOST}:{target.port}/postgres{query}"


async def is_encrypted_for_prefect(target: DatabaseTarget) -> bool:
    """Return what the server says of a connection that Prefect's own engine makes."""
    engine = await AsyncPostgresConfiguration(connection_url=url(target)).engine()
    async with engine.connect() as connection:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        encrypted = bool((await connection.execute(text(query))).scalar_one())
    await engine.dispose()
    return encrypted


def test_the_right_authority_passes(
    encrypted: DatabaseTarget, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(files.ca))
    await_migrations(encrypted)
    assert asyncio.run(is_encrypted_for_prefect(encrypted))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_wrong_authority_is_refused_at_once(
    encrypted: DatabaseTarget, files: Files, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("PGSSLMODE", mode)
    monkeypatch.setenv("PGSSLROOTCERT", str(files.other_ca))
    sentence = refusal(encrypted)
    assert f"No TLS connection to the database {encrypted}" in sentence
    assert "certificate" in sentence
    assert "Next: correct database.external.tls" in sentence


def test_a_certificate_of_another_host_is_refused_at_once(
    elsewhere: DatabaseTarget, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(files.ca))
    assert "not valid for '127.0.0.1'" in refusal(elsewhere)


def test_a_server_without_tls_is_refused_at_once(
    plain: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    assert re.search(r"No TLS connection .* rejected SSL upgrade", refusal(plain))


def test_a_server_that_asks_for_a_certificate_gets_it(
    with_certificates: DatabaseTarget, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = files.client
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGSSLCERT", str(certificate))
    monkeypatch.setenv("PGSSLKEY", str(key))
    assert asyncio.run(is_encrypted_for_prefect(with_certificates))


def test_a_server_that_asks_for_a_certificate_in_vain_refuses_at_once(
    with_certificates: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    assert "requires a valid client certificate" in refusal(with_certificates)


def test_a_mode_that_verifies_without_an_authority_is_refused_at_once(
    encrypted: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert re.search(r"root certificate file .* does not exist", refusal(encrypted))


def test_tls_of_a_connection_url_goes_before_the_environment(
    plain: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    given = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url(plain, "?ssl=require")}
    assert "rejected SSL upgrade" in refusal(DatabaseTarget.from_environment(given))
