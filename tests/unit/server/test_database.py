"""The server waits for the database, migrates it once, and refuses one that does not fit."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import prefect.server.database
import pytest
from alembic.script import ScriptDirectory
from prefect.settings.models.root import Settings

from prefect_platform.errors import PlatformError
from prefect_platform.server import database
from prefect_platform.server.database import DatabaseTarget, Migration, Revisions
from tests.support.postgres import execute, postgres

_SETTING = "PREFECT_SERVER_DATABASE_"
_PASSWORD = "p@s:/w%?#& +x"
_PARTS = {
    f"{_SETTING}DRIVER": "postgresql+asyncpg",
    f"{_SETTING}HOST": "db.example.org",
    f"{_SETTING}PORT": "6432",
    f"{_SETTING}NAME": "prefect",
    f"{_SETTING}USER": "owner",
    f"{_SETTING}PASSWORD": _PASSWORD,
}
_REVISIONS = Revisions(
    "newest", {"older": Migration(), "newest": Migration(frozenset({"older"}), frozenset({"held"}))}
)


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseTarget]:
    """Yield a real server with a password that must be encoded in a URL."""
    with postgres("owner", _PASSWORD) as port:
        yield DatabaseTarget("127.0.0.1", port, "postgres", "owner", _PASSWORD)


@pytest.fixture
def target(server: DatabaseTarget) -> Iterator[DatabaseTarget]:
    """Yield an empty database."""
    asyncio.run(execute(server, "CREATE DATABASE one_test"))
    yield DatabaseTarget(server.host, server.port, "one_test", server.user, server.password)
    asyncio.run(execute(server, "DROP DATABASE one_test WITH (FORCE)"))


async def set_revision(target: DatabaseTarget, revision: str) -> None:
    await execute(
        target,
        "CREATE TABLE IF NOT EXISTS alembic_version (version_num text)",
        "DELETE FROM alembic_version",
        f"INSERT INTO alembic_version VALUES ('{revision}')",  # noqa: S608
    )


class FakePrefectDatabase:
    """Replaces Prefect's own commands, which take ten seconds, and records its calls.

    tests/cluster/test_upgrade.py runs the real commands.
    """

    def __init__(self, target: DatabaseTarget) -> None:
        self.target = target
        self.calls: list[tuple[str, ...]] = []

    async def __call__(self, *command: str) -> None:
        self.calls.append(command)
        await set_revision(self.target, "newest" if command[0] == "upgrade" else command[-1])


@pytest.fixture
def prefect_database(
    target: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> FakePrefectDatabase:
    fake = FakePrefectDatabase(target)
    monkeypatch.setattr(database, "_prefect_database", fake)
    return fake


def test_the_head_revision_is_the_one_that_alembic_finds() -> None:
    migrations = Path(prefect.server.database.__file__).parent / "_migrations"
    scripts = ScriptDirectory(
        str(migrations), version_locations=[str(migrations / "versions" / "postgresql")]
    )
    found = Revisions.of_installed_prefect()
    assert found.head == scripts.get_current_head()
    assert found.migrations.keys() == {script.revision for script in scripts.walk_revisions()}


def test_a_downgrade_to_the_previous_prefect_drops_a_table() -> None:
    found = Revisions.of_installed_prefect()

    assert found.dropped_between(found.head, "d4a7e1c93f52") == {"automation_held_event"}
    assert found.dropped_between(found.head, found.head) == set()


def test_branching_migrations_are_refused(tmp_path: Path) -> None:
    for name, down in {"a": None, "b": "a", "c": "a"}.items():
        (tmp_path / f"{name}.py").write_text(f"revision = {name!r}\ndown_revision = {down!r}\n")
    with pytest.raises(PlatformError, match="end in 2 revisions instead of one"):
        Revisions.in_directory(tmp_path)


def test_a_merge_of_two_branches_has_one_head(tmp_path: Path) -> None:
    downs = {"a": None, "b": "a", "c": "a", "d": ("b", "c")}
    for name, down in downs.items():
        (tmp_path / f"{name}.py").write_text(
            f"revision: str = {name!r}\ndown_revision = {down!r}\n"
        )
    assert Revisions.in_directory(tmp_path).head == "d"


def test_separate_settings_select_the_database_that_prefect_connects_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in _PARTS.items():
        monkeypatch.setenv(name, value)
    url = Settings().server.database.connection_url
    assert url is not None
    by_url = DatabaseTarget.from_environment({f"{_SETTING}CONNECTION_URL": url.get_secret_value()})
    assert DatabaseTarget.from_environment(_PARTS) == by_url
    assert by_url.password == _PASSWORD


def test_the_tls_mode_of_a_connection_url_is_kept() -> None:
    url = "postgresql+asyncpg://owner:secret@db.example.org/prefect?ssl=verify-full"
    target = DatabaseTarget.from_environment({f"{_SETTING}CONNECTION_URL": url})
    assert (target.port, target.ssl) == (5432, "verify-full")


def test_the_password_is_never_printed() -> None:
    target = DatabaseTarget.from_environment(_PARTS)
    assert _PASSWORD not in f"{target} {target!r}"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "PREFECT_SERVER_DATABASE_HOST, PREFECT_SERVER_DATABASE_NAME"),
        ({f"{_SETTING}CONNECTION_URL": "sqlite+aiosqlite:///prefect.db"}, "is not postgresql"),
    ],
)
def test_missing_settings_and_unsupported_databases_are_refused(
    environment: dict[str, str], sentence: str
) -> None:
    with pytest.raises(PlatformError, match=sentence):
        DatabaseTarget.from_environment(environment)


def test_a_database_at_the_head_revision_is_not_waited_for(target: DatabaseTarget) -> None:
    asyncio.run(set_revision(target, "newest"))
    asyncio.run(database.await_migrations(target, _REVISIONS, timeout=0))


def test_the_wait_for_an_empty_database_times_out_with_the_reason(target: DatabaseTarget) -> None:
    with pytest.raises(PlatformError, match="the database is empty, but this image needs newest"):
        asyncio.run(database.await_migrations(target, _REVISIONS, timeout=0))


def test_the_wait_for_an_older_database_times_out_with_the_reason(target: DatabaseTarget) -> None:
    asyncio.run(set_revision(target, "older"))
    with pytest.raises(PlatformError, match="the database is at revision older, but this image"):
        asyncio.run(database.await_migrations(target, _REVISIONS, timeout=0))


def test_a_waiting_api_continues_when_the_migration_ends(target: DatabaseTarget) -> None:
    async def both() -> None:
        waiting = database.await_migrations(target, _REVISIONS, timeout=60)
        await asyncio.gather(waiting, set_revision(target, "newest"))

    asyncio.run(both())


def test_an_unreachable_server_is_named(target: DatabaseTarget) -> None:
    away = DatabaseTarget("127.0.0.1", 1, target.name, target.user, target.password)
    with pytest.raises(PlatformError, match=r"127\.0\.0\.1:1/one_test .*Connect call failed"):
        asyncio.run(database.await_migrations(away, _REVISIONS, timeout=0))


def test_a_wrong_password_fails_without_waiting(target: DatabaseTarget) -> None:
    wrong = DatabaseTarget(target.host, target.port, target.name, target.user, "wrong")
    with pytest.raises(PlatformError, match="refused the user owner"):
        asyncio.run(database.await_migrations(wrong, _REVISIONS, timeout=600))


@pytest.mark.parametrize("command", [database.await_migrations, database.migrate])
def test_a_database_of_a_newer_prefect_is_refused(
    target: DatabaseTarget, command: Callable[..., Coroutine[None, None, None]]
) -> None:
    asyncio.run(set_revision(target, "from-the-future"))
    with pytest.raises(PlatformError, match="at revision from-the-future, which this image does"):
        asyncio.run(command(target, _REVISIONS, timeout=600))


def test_migrating_twice_upgrades_once(
    target: DatabaseTarget, prefect_database: FakePrefectDatabase
) -> None:
    for _ in range(2):
        asyncio.run(database.migrate(target, _REVISIONS, timeout=60))
    assert prefect_database.calls == [("upgrade",)]


def test_concurrent_migrations_upgrade_once(
    target: DatabaseTarget, prefect_database: FakePrefectDatabase
) -> None:
    async def both() -> None:
        await asyncio.gather(
            database.migrate(target, _REVISIONS, timeout=60),
            database.migrate(target, _REVISIONS, timeout=60),
        )

    asyncio.run(both())
    assert prefect_database.calls == [("upgrade",)]


def test_requesting_a_downgrade_twice_downgrades_once(
    target: DatabaseTarget, prefect_database: FakePrefectDatabase
) -> None:
    asyncio.run(set_revision(target, "newest"))
    asyncio.run(execute(target, "CREATE TABLE held (id int)"))
    for _ in range(2):
        asyncio.run(database.downgrade(target, _REVISIONS, "older", timeout=60))
    assert prefect_database.calls == [("downgrade", "--revision", "older")]


def test_a_downgrade_deletes_only_rows_that_may_be_lost(
    target: DatabaseTarget, prefect_database: FakePrefectDatabase
) -> None:
    asyncio.run(set_revision(target, "newest"))
    asyncio.run(execute(target, "CREATE TABLE held (id int)", "INSERT INTO held VALUES (1), (2)"))
    with pytest.raises(PlatformError) as refused:
        asyncio.run(database.downgrade(target, _REVISIONS, "older", may_lose=["other"], timeout=60))
    assert "tables that the older Prefect does not have: held (2 rows)" in str(refused.value)
    assert "set migrations.mayLose to [held, other]" in str(refused.value)
    assert prefect_database.calls == []

    asyncio.run(database.downgrade(target, _REVISIONS, "older", may_lose=["held"], timeout=60))
    assert prefect_database.calls == [("downgrade", "--revision", "older")]


def test_a_downgrade_waits_until_the_api_has_disconnected(
    target: DatabaseTarget, prefect_database: FakePrefectDatabase
) -> None:
    async def with_another_connection() -> None:
        api = await database._connect(target)
        try:
            await database.downgrade(target, _REVISIONS, "older", timeout=0)
        finally:
            await api.close()

    asyncio.run(set_revision(target, "newest"))
    with pytest.raises(
        PlatformError, match=r"Gave up .* 1 connections of the user owner are still open"
    ):
        asyncio.run(with_another_connection())
    assert prefect_database.calls == []


def test_a_downgrade_to_an_unknown_revision_is_refused(
    target: DatabaseTarget, prefect_database: FakePrefectDatabase
) -> None:
    with pytest.raises(PlatformError, match="does not know the database revision from-elsewhere"):
        asyncio.run(database.downgrade(target, _REVISIONS, "from-elsewhere", timeout=60))
    assert prefect_database.calls == []


def test_an_older_image_says_how_to_downgrade_the_database_to_its_revision(
    target: DatabaseTarget,
) -> None:
    asyncio.run(set_revision(target, "from-the-future"))
    with pytest.raises(PlatformError) as refused:
        asyncio.run(database.await_migrations(target, _REVISIONS, timeout=600))
    assert "migrations.revision=newest" in str(refused.value)
