"""Migrate the server's database to this image's revision, then re-encrypt blocks with a new key.

The migration Job runs this program when the values name a previous encryption key. Prefect encrypts
only the data of block documents, each as a Fernet token in a JSON string. Prefect is not imported
here; a test checks this assumption against the installed version.
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

# Each variable with the chart value that names its Secret; the new key comes first.
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
    """Return the new key and the previous one; raises PlatformError naming an invalid one."""
    new, previous = (_key(environment, *names) for names in _VARIABLES.items())
    return new, previous


def _key(environment: Mapping[str, str], variable: str, value: str) -> Fernet:
    try:
        return Fernet(environment.get(variable, ""))
    except ValueError:
        # The original error is dropped, because it could contain the key.
        raise PlatformError(
            f"{variable} is not a Fernet key, which is the URL-safe base64 of 32 bytes",
            next_step=f"correct the Secret that {value} names, then delete this Job and deploy "
            "again",
        ) from None


async def reencrypt(
    target: DatabaseTarget, new: Fernet, previous: Fernet, *, timeout: float
) -> int:
    """Re-encrypt with `new` every block that only `previous` decrypts; return how many there were.

    Blocks that `new` decrypts are left alone. Raises PlatformError when neither key decrypts a
    block, when the database does not answer for `timeout` seconds, and when the connection breaks;
    nothing is changed in any of these cases.
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
                f"Re-encrypting the blocks of {target} failed, and nothing was changed: {error}",
                next_step="this Job retries automatically; if that fails too, read the database's "
                "log",
            ) from error
    return len(renewed)


def _renewed(
    target: DatabaseTarget, blocks: list[asyncpg.Record], new: Fernet, previous: Fernet
) -> list[tuple[object, str]]:
    """Return the id and the new token of each block that the new key does not decrypt yet."""
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
            f"Neither encryption key decrypts these blocks of {target}: "
            f"{', '.join(sorted(foreign))}; "
            "nothing was changed",
            next_step="set encryption.previousSecret to the Secret with their key, or delete the "
            "blocks; then delete this Job and deploy again",
        )
    return renewed


def main() -> None:
    """Migrate the database, re-encrypt its blocks, and log how many there were."""
    parser = argparse.ArgumentParser(prog="python -m prefect_platform.server.reencryption")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    asyncio.run(_run(timeout=parser.parse_args().timeout))


async def _run(*, timeout: float) -> None:
    target, (new, previous) = DatabaseTarget.from_environment(os.environ), keys(os.environ)
    await database.migrate(target, Revisions.of_installed_prefect(), timeout=timeout)
    number = await reencrypt(target, new, previous, timeout=timeout)
    container.say(f"{number} blocks of {target} were re-encrypted with the new encryption key")


if __name__ == "__main__":
    container.run(main)
