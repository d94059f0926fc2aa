"""Bring the server's database to the revision of this image, and its blocks to a new key.

The program of the migration Job when the values name a previous encryption key. Prefect encrypts
the data of block documents and nothing else, each as a Fernet token in a JSON string: a test holds
that against the installed Prefect, which is not imported here.
"""

import argparse
import asyncio
import os
from collections.abc import Mapping

import asyncpg  # type: ignore[import-untyped]
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from prefect_platform import container
from prefect_platform.errors import PlatformError
from prefect_platform.server import database
from prefect_platform.server.database import DatabaseTarget, Revisions

# The value of the chart that names the Secret of each variable, the new key first.
_VARIABLES = {
    "PREFECT_SERVER_ENCRYPTION_KEY": "encryption.secret",
    "PREVIOUS_ENCRYPTION_KEY": "encryption.previousSecret",
}
_LOCK_TIMEOUT = "60s"
_BLOCKS = """
    SELECT block.id, block_type.slug || '/' || block.name AS name, block.data #>> '{}' AS token
    FROM block_document AS block JOIN block_type ON block_type.id = block.block_type_id
    ORDER BY block.id FOR UPDATE OF block"""
_UPDATE = "UPDATE block_document SET data = to_jsonb($2::text) WHERE id = $1"


def keys(environment: Mapping[str, str]) -> tuple[Fernet, Fernet]:
    """Return the new key and the previous one; raise PlatformError that names one that is none."""
    new, previous = (_key(environment, *names) for names in _VARIABLES.items())
    return new, previous


def _key(environment: Mapping[str, str], variable: str, value: str) -> Fernet:
    try:
        return Fernet(environment.get(variable, ""))
    except ValueError:
        # Without the cause: it could show the key.
        raise PlatformError(
            f"{variable} is not a Fernet key, which is the URL-safe base64 of 32 bytes",
            next_step=f"correct the Secret that {value} names, then delete this Job and deploy "
            "again",
        ) from None


async def reencrypt(
    target: DatabaseTarget, new: Fernet, previous: Fernet, *, timeout: float
) -> int:
    """Write every block that `previous` opens again with `new`; return how many those were.

    What `new` opens is left alone. Raises PlatformError when neither opens a block, or when the
    database stays away for `timeout` seconds or breaks off; then nothing is changed.
    """
    async with database.locked(target, timeout) as connection:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                blocks = await connection.fetch(_BLOCKS)
                renewed = _renewed(target, blocks, new, previous)
                await connection.executemany(_UPDATE, renewed)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise PlatformError(
                f"The new encryption of the blocks of {target} broke off, nothing is changed: "
                f"{error}",
                next_step="read the database's log if this Job, which tries again, breaks off too",
            ) from error
    return len(renewed)


def _renewed(
    target: DatabaseTarget, blocks: list[asyncpg.Record], new: Fernet, previous: Fernet
) -> list[tuple[object, str]]:
    """Return id and new token of each block that is not of the new key yet."""
    both = MultiFernet([new, previous])
    renewed, foreign = [], []
    for block in blocks:
        token = block["token"] or ""
        try:
            new.decrypt(token)
        except InvalidToken:
            try:
                renewed.append((block["id"], both.rotate(token).decode()))
            except InvalidToken:
                foreign.append(block["name"])
    if foreign:
        raise PlatformError(
            f"Neither encryption key opens these blocks of {target}: {', '.join(sorted(foreign))}; "
            "nothing is changed",
            next_step="let encryption.previousSecret name the Secret with their key, or delete the "
            "blocks; then delete this Job and deploy again",
        )
    return renewed


def main() -> None:
    """Migrate, then encrypt anew, and say how many blocks that were."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.server.reencryption")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    asyncio.run(_run(timeout=parser.parse_args().timeout))


async def _run(*, timeout: float) -> None:
    target, (new, previous) = DatabaseTarget.from_environment(os.environ), keys(os.environ)
    await database.migrate(target, Revisions.of_installed_prefect(), timeout=timeout)
    number = await reencrypt(target, new, previous, timeout=timeout)
    container.say(f"{number} blocks of {target} were written again with the new encryption key")


if __name__ == "__main__":
    container.run(main)
