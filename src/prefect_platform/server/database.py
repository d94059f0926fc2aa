"""Upgrade the server's database to this image's revision, downgrade it, or wait for the upgrade.

Runs as an init container of the API (`await-migrations`) and as the migration Job (`migrate`,
`downgrade`). It does not import Prefect, which would cost seconds of CPU at every start; it only
reads the directory of Prefect's migration scripts.
"""

import argparse
import ast
import asyncio
import importlib.util
import os
import ssl
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg  # type: ignore[import-untyped]

from prefect_platform import container
from prefect_platform.container import NotYet, wait_for
from prefect_platform.errors import PlatformError

_SETTING = "PREFECT_SERVER_DATABASE_"
_DEFAULT_PORT = 5432
_CONNECT_SECONDS = 5.0
# The number is arbitrary; it only has to be the same for every migration Job of a database.
_MIGRATION_LOCK = 0x50524546454354
_OTHER_CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class DatabaseTarget:
    """How to reach the database; `password` never appears in a log or in the representation."""

    host: str
    port: int
    name: str
    user: str
    password: str | None = field(repr=False)
    ssl: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.name}"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "DatabaseTarget":
        """Read the settings that Prefect's server reads: a connection URL, or its parts.

        Raises PlatformError, which names the setting, when one is missing or the URL is not one of
        PostgreSQL.
        """
        if url := environment.get(f"{_SETTING}CONNECTION_URL"):
            return cls._from_url(url)
        missing = [
            f"{_SETTING}{part}"
            for part in ("HOST", "NAME", "USER")
            if not environment.get(f"{_SETTING}{part}")
        ]
        if missing:
            raise PlatformError(
                f"The database is not configured: {', '.join(missing)} missing in the environment",
                next_step="set database.external or database.mode in the values of prefect-server",
            )
        return cls(
            host=environment[f"{_SETTING}HOST"],
            port=int(environment.get(f"{_SETTING}PORT") or _DEFAULT_PORT),
            name=environment[f"{_SETTING}NAME"],
            user=environment[f"{_SETTING}USER"],
            password=environment.get(f"{_SETTING}PASSWORD"),
        )

    @classmethod
    def _from_url(cls, url: str) -> "DatabaseTarget":
        parts = urlsplit(url)
        if not parts.scheme.startswith("postgresql") or not parts.hostname:
            raise PlatformError(
                "The connection URL of the database is not postgresql+asyncpg://USER:PASSWORD@HOST",
                next_step="correct the Secret that database.external.connectionUrlSecret names",
            )
        ssl = parse_qs(parts.query).get("ssl")
        return cls(
            host=parts.hostname,
            port=parts.port or _DEFAULT_PORT,
            name=unquote(parts.path.removeprefix("/")),
            user=unquote(parts.username or ""),
            password=unquote(parts.password) if parts.password is not None else None,
            ssl=ssl[-1] if ssl else None,
        )


@dataclass(frozen=True)
class Migration:
    """One of Prefect's migration scripts: its predecessors, and what its downgrade drops."""

    follows: frozenset[str] = frozenset()
    drops: frozenset[str] = frozenset()
    """Names of the tables that are dropped with all of their rows."""


@dataclass(frozen=True)
class Revisions:
    """The migrations of one Prefect version by revision; `head` is the newest revision."""

    head: str
    migrations: Mapping[str, Migration]

    @classmethod
    def of_installed_prefect(cls) -> "Revisions":
        """Read the migration scripts of the installed Prefect without importing it.

        Raises PlatformError when Prefect is not installed.
        """
        spec = importlib.util.find_spec("prefect")
        if spec is None or not spec.submodule_search_locations:
            raise PlatformError(
                "Prefect is not installed in this image",
                next_step="set image.repository and image.tag to the image `platform`",
            )
        package = Path(spec.submodule_search_locations[0])
        return cls.in_directory(package / "server/database/_migrations/versions/postgresql")

    @classmethod
    def in_directory(cls, scripts: Path) -> "Revisions":
        """Read `revision` and `down_revision` of each script, as alembic does.

        Raises PlatformError when the scripts do not end in exactly one revision.
        """
        migrations: dict[str, Migration] = {}
        for path in scripts.glob("*.py"):
            script = ast.parse(path.read_bytes())
            assigned = _assigned_constants(script)
            if revision := assigned.get("revision"):
                down = assigned.get("down_revision")
                follows = [down] if isinstance(down, str) else down or ()
                migrations[revision] = Migration(frozenset(follows), _dropped_tables(script))
        heads = migrations.keys() - {
            each for found in migrations.values() for each in found.follows
        }
        if len(heads) != 1:
            raise PlatformError(
                f"The migration scripts in {scripts} end in {len(heads)} revisions instead of one",
                next_step="rebuild the image `platform` from the committed lock",
            )
        return cls(heads.pop(), migrations)

    def dropped_between(self, newer: str, older: str) -> set[str]:
        """Return the tables that a downgrade from `newer` to `older` drops."""
        undone = self._history(newer) - self._history(older)
        return {table for each in undone for table in self.migrations[each].drops}

    def _history(self, revision: str) -> set[str]:
        """Return the revision and all of its predecessors."""
        found, pending = set(), [revision]
        while pending:
            found.add(each := pending.pop())
            pending += self.migrations[each].follows - found
        return found


def _assigned_constants(script: ast.Module) -> dict[str, Any]:
    """Return the constants that are assigned at the top level of a script, by name."""
    assigned: dict[str, Any] = {}
    for statement in script.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        try:
            assigned[name] = ast.literal_eval(value)
        except ValueError:
            continue
    return assigned


def _dropped_tables(script: ast.Module) -> frozenset[str]:
    """Return the tables that the script's `downgrade` drops."""
    return frozenset(
        str(ast.literal_eval(call.args[0]))
        for function in script.body
        if isinstance(function, ast.FunctionDef) and function.name == "downgrade"
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "op.drop_table"
    )


async def await_migrations(target: DatabaseTarget, revisions: Revisions, *, timeout: float) -> None:
    """Return when the database is at this image's revision.

    Raises PlatformError after `timeout` seconds.
    """

    async def check() -> None:
        async with connected(target) as connection:
            current = await _current_revision(connection, target, revisions)
        if current != revisions.head:
            at = f"at revision {current}" if current else "empty"
            raise NotYet(f"the database is {at}, but this image needs {revisions.head}")

    await wait_for(
        f"the migrations of {target}",
        check,
        timeout=timeout,
        next_step="kubectl logs -l app.kubernetes.io/component=migrations --all-containers",
    )
    container.say(f"{target} is at revision {revisions.head}")


async def migrate(target: DatabaseTarget, revisions: Revisions, *, timeout: float) -> None:
    """Upgrade the database to this image's revision; do nothing when it already has it.

    Prefect's own upgrade takes no lock, so two processes would collide; an advisory lock makes the
    second one wait. Raises PlatformError when the database does not answer for `timeout` seconds,
    and when the upgrade fails.
    """
    async with locked(target, timeout) as connection:
        current = await _current_revision(connection, target, revisions)
        if current == revisions.head:
            container.say(f"{target} is already at revision {current}; nothing to do")
            return
        container.say(f"Migrating {target} from {current or 'empty'} to {revisions.head}")
        await _prefect_database("upgrade")
        container.say(f"Migrated {target} to {revisions.head}")


async def downgrade(
    target: DatabaseTarget,
    revisions: Revisions,
    revision: str,
    *,
    may_lose: Collection[str] = (),
    timeout: float,
) -> None:
    """Downgrade the database to `revision`, so that the older Prefect that needs it can run.

    Waits until the API and the background services have closed their connections, because they
    cannot work with the older tables. Raises PlatformError when this image does not know
    `revision`, when connections stay open for `timeout` seconds, when the downgrade would drop a
    table that has rows and is not named in `may_lose`, and when the downgrade fails.
    """
    if revision not in revisions.migrations:
        raise PlatformError(
            f"This image does not know the database revision {revision}",
            next_step="set migrations.revision to the revision that the older image prints in its "
            "log",
        )
    async with locked(target, timeout) as connection:
        current = await _current_revision(connection, target, revisions)
        if current == revision:
            container.say(f"{target} is already at revision {current}; nothing to do")
            return

        async def unused() -> None:
            if others := await connection.fetchval(_OTHER_CONNECTIONS):
                raise NotYet(f"{others} connections of the user {target.user} are still open")

        await wait_for(
            f"the API and the background services to disconnect from {target}",
            unused,
            timeout=timeout,
            next_step="stop everything else that uses the database, including a connection pooler",
        )
        if current is not None:
            await _refuse_losses(connection, revisions.dropped_between(current, revision), may_lose)
        container.say(f"Downgrading {target} from {current or 'empty'} to {revision}")
        await _prefect_database("downgrade", "--revision", revision)
        container.say(f"{target} is at revision {revision}")


async def _refuse_losses(
    connection: asyncpg.Connection, dropped: set[str], may_lose: Collection[str]
) -> None:
    counts = {
        table: await connection.fetchval(f'SELECT count(*) FROM "{table}"')  # noqa: S608
        for table in sorted(dropped.difference(may_lose))
    }
    lost = {table: rows for table, rows in counts.items() if rows}
    if lost:
        told = ", ".join(f"{table} ({rows} rows)" for table, rows in lost.items())
        accepted = ", ".join(sorted({*lost, *may_lose}))
        raise PlatformError(
            f"The downgrade would delete tables that the older Prefect does not have: {told}",
            next_step=f"to delete them, set migrations.mayLose to [{accepted}]; to keep them, "
            "clear migrations.revision (docs/operations/upgrade.md describes the tables)",
        )


@asynccontextmanager
async def locked(target: DatabaseTarget, timeout: float) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection that holds the migration lock.

    Raises PlatformError when the database or the lock is not available within `timeout` seconds.
    """

    async def attempt() -> asyncpg.Connection:
        connection = await _connect(target)
        # Polled, because a session that blocks in pg_advisory_lock holds a snapshot, and CREATE
        # INDEX CONCURRENTLY in a migration would wait for that snapshot forever.
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _MIGRATION_LOCK):
            return connection
        await connection.close()
        raise NotYet("another migration is running")

    connection = await wait_for(
        f"the database {target}",
        attempt,
        timeout=timeout,
        next_step="kubectl get pods -l app.kubernetes.io/component=database",
    )
    try:
        yield connection
    finally:
        await connection.close()


async def _prefect_database(*command: str) -> None:
    """Run `prefect server database`; its output goes straight to this container's log."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect", "server", "database", *command, "--yes")
    )
    code = await process.wait()
    if code != 0:
        raise PlatformError(
            f"`prefect server database {' '.join(command)}` exited with {code}; its output is "
            "above",
            next_step="correct the cause, then delete this Job and deploy again",
        )


async def _connect(target: DatabaseTarget) -> asyncpg.Connection:
    """Open a connection; raises NotYet while the server is down, PlatformError when it refuses.

    If the URL does not configure TLS, asyncpg reads PGSSLMODE, PGSSLROOTCERT, PGSSLCERT and
    PGSSLKEY, as it does for Prefect.
    """
    try:
        return await asyncpg.connect(
            host=target.host,
            port=target.port,
            database=target.name,
            user=target.user,
            password=target.password,
            ssl=target.ssl,
            timeout=_CONNECT_SECONDS,
        )
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise PlatformError(
            f"The database {target} refused the user {target.user}: {error}",
            next_step="compare the password in the Secret with the password of this user in the "
            "database",
        ) from error
    except (ssl.SSLEOFError, ConnectionResetError) as error:
        raise NotYet(f"it closed the connection ({error})") from error
    except (ssl.SSLError, asyncpg.ClientConfigurationError) as error:
        raise _no_tls(target, error) from error
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
            raise _no_tls(target, error) from error
        raise NotYet(str(error) or type(error).__name__) from error


def _no_tls(target: DatabaseTarget, error: Exception) -> PlatformError:
    """Return the error for a failed TLS handshake, which waiting would not cure."""
    reason = getattr(error, "verify_message", None) or error
    return PlatformError(
        f"Cannot connect to the database {target} with the configured TLS: {reason}",
        next_step="correct database.external.tls, or `ssl` in the connection URL",
    )


@asynccontextmanager
async def connected(target: DatabaseTarget) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection; raises NotYet or PlatformError like `_connect`."""
    connection = await _connect(target)
    try:
        yield connection
    finally:
        await connection.close()


async def _current_revision(
    connection: asyncpg.Connection, target: DatabaseTarget, revisions: Revisions
) -> str | None:
    """Return the database's revision, or None when it does not have Prefect's tables yet.

    Raises PlatformError for a revision that this image does not know, because a newer image has
    migrated the database.
    """
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    current: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    if current is not None and current not in revisions.migrations:
        raise PlatformError(
            f"The database {target} is at revision {current}, which this image does not know: "
            "a newer Prefect has migrated it",
            next_step="deploy the newer image again; to go back to this one, first deploy the "
            f"newer image with migrations.revision={revisions.head}, which downgrades the database",
        )
    return current


def main() -> None:
    """Parse the command line and run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.server.database")
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate", parents=[options])
    commands.add_parser("await-migrations", parents=[options])
    back = commands.add_parser("downgrade", parents=[options])
    back.add_argument("revision")
    back.add_argument("--may-lose", action="append", default=[], metavar="TABLE")
    arguments = parser.parse_args()
    target, revisions = (
        DatabaseTarget.from_environment(os.environ),
        Revisions.of_installed_prefect(),
    )
    timeout: float = arguments.timeout
    match arguments.command:
        case "migrate":
            work = migrate(target, revisions, timeout=timeout)
        case "await-migrations":
            work = await_migrations(target, revisions, timeout=timeout)
        case _:
            work = downgrade(
                target,
                revisions,
                arguments.revision,
                may_lose=arguments.may_lose,
                timeout=timeout,
            )
    asyncio.run(work)


if __name__ == "__main__":
    container.run(main)
