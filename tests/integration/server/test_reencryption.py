"""Blocks of the previous encryption key become readable with the new one, or none is changed."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import prefect
import pytest
from cryptography.fernet import Fernet
from prefect.server.database import orm_models

from prefect_platform.container import NotYet, wait_for
from prefect_platform.errors import PlatformError
from prefect_platform.server import reencryption
from prefect_platform.server.database import DatabaseTarget
from prefect_platform.server.reencryption import reencrypt
from tests.support.postgres import execute, postgres, restore_prefect
from tests.support.rows import rows
from tests.support.servers import PREPARED, clean_environment, prefect_server

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
KEYS = Fernet(NEW), Fernet(OLD)
_SECRETS = {"first": "of the first", "second": "of the second"}
_STORED = b'{"value": "stored"}'
_STORE = "UPDATE block_document SET data = to_jsonb($2::text) WHERE name = $1"
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseTarget]:
    """Return a server with a database `written`, in which Prefect wrote blocks with the old key."""
    with postgres("owner", "password") as port:
        server = DatabaseTarget("127.0.0.1", port, "postgres", "owner", "password")
        asyncio.run(execute(server, "CREATE DATABASE written"))
        restore_prefect(replace(server, name="written"))
        write_blocks(replace(server, name="written"), tmp_path_factory.mktemp("old"))
        yield server


@pytest.fixture
def target(written: DatabaseTarget) -> Iterator[DatabaseTarget]:
    """Return a copy of the database `written`."""
    asyncio.run(execute(written, "CREATE DATABASE one_test TEMPLATE written"))
    yield replace(written, name="one_test")
    asyncio.run(execute(written, "DROP DATABASE one_test WITH (FORCE)"))


def write_blocks(target: DatabaseTarget, directory: Path) -> None:
    settings = {**connection(target), **PREPARED, "PREFECT_SERVER_ENCRYPTION_KEY": OLD}
    with (
        prefect_server(directory, **settings) as api,
        httpx.Client(base_url=api, timeout=60) as client,
    ):
        block_type = client.get("/block_types/slug/secret").raise_for_status().json()["id"]
        of_type = {"block_schemas": {"block_type_id": {"any_": [block_type]}}}
        (schema,) = client.post("/block_schemas/filter", json=of_type).raise_for_status().json()
        for name, value in _SECRETS.items():
            block = {
                "name": name,
                "data": {"value": value},
                "block_type_id": block_type,
                "block_schema_id": schema["id"],
            }
            client.post("/block_documents/", json=block).raise_for_status()


def connection(target: DatabaseTarget) -> dict[str, str]:
    url = f"postgresql+asyncpg://owner:password@127.0.0.1:{target.port}/{target.name}"
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}


def program(target: DatabaseTarget, home: Path, **keys: str) -> "subprocess.CompletedProcess[str]":
    """Run the program of the migration Job."""
    return subprocess.run(
        [sys.executable, "-m", "prefect_platform.server.reencryption", "--timeout=60"],
        env=clean_environment(home, **connection(target), **keys),
        capture_output=True,
        text=True,
        check=False,
    )


async def tokens(target: DatabaseTarget) -> dict[str, str]:
    """Return the stored token of each block, by its name."""
    async with rows(target) as database:
        found = await database.connection.fetch(
            "SELECT name, data #>> '{}' AS token FROM block_document"
        )
    return dict(found)


def stored(key: str) -> str:
    """Return a block's data as a server with this key stores it."""
    return Fernet(key).encrypt(_STORED).decode()


async def store(target: DatabaseTarget, name: str, key: str) -> None:
    async with rows(target) as database:
        await database.connection.execute(_STORE, name, stored(key))


def test_a_server_with_the_new_key_reads_blocks_that_were_encrypted_with_the_previous_one(
    target: DatabaseTarget, tmp_path: Path
) -> None:
    keys = {"PREFECT_SERVER_ENCRYPTION_KEY": NEW, "PREVIOUS_ENCRYPTION_KEY": OLD}
    first = program(target, tmp_path, **keys)
    after_first = asyncio.run(tokens(target))
    second = program(target, tmp_path, **keys)

    assert "\n2 blocks of 127.0.0.1" in first.stderr, first.stderr
    assert "\n0 blocks of 127.0.0.1" in second.stderr, second.stderr
    assert asyncio.run(tokens(target)) == after_first
    printed = first.stdout + first.stderr + second.stdout + second.stderr
    assert not [text for text in (OLD, NEW, *_SECRETS.values()) if text in printed]

    settings = {**connection(target), **PREPARED, "PREFECT_SERVER_ENCRYPTION_KEY": NEW}
    with prefect_server(tmp_path, **settings) as api:
        read = {
            name: httpx.get(
                f"{api}/block_types/slug/secret/block_documents/name/{name}",
                params={"include_secrets": True},
                timeout=60,
            )
            .raise_for_status()
            .json()["data"]["value"]
            for name in _SECRETS
        }
    assert read == _SECRETS


def test_a_block_that_neither_key_decrypts_is_named_and_no_block_is_changed(
    target: DatabaseTarget,
) -> None:
    asyncio.run(store(target, "first", OLD))
    asyncio.run(store(target, "second", OTHER))
    before = asyncio.run(tokens(target))
    with pytest.raises(PlatformError, match=r"decrypts these blocks .*: secret/second; nothing"):
        asyncio.run(reencrypt(target, *KEYS, timeout=20))
    assert asyncio.run(tokens(target)) == before


def test_a_block_that_an_old_pod_wrote_meanwhile_is_reencrypted_by_the_next_run(
    target: DatabaseTarget,
) -> None:
    asyncio.run(store(target, "first", NEW))
    asyncio.run(store(target, "second", OLD))
    before = asyncio.run(tokens(target))
    assert asyncio.run(reencrypt(target, *KEYS, timeout=20)) == 1
    after = asyncio.run(tokens(target))
    assert after["first"] == before["first"]
    assert Fernet(NEW).decrypt(after["second"]) == _STORED


def test_reencryption_waits_for_a_block_that_an_old_pod_is_writing_and_keeps_it(
    target: DatabaseTarget,
) -> None:
    async def run() -> None:
        async with rows(target) as old_pod, rows(target) as watch:

            async def waiting() -> None:
                if not await watch.connection.fetchval(_WAITING):
                    raise NotYet("no connection waits for a lock")

            async with old_pod.connection.transaction():
                await old_pod.connection.execute(_STORE, "first", stored(OLD))
                work = asyncio.create_task(reencrypt(target, *KEYS, timeout=20))
                await wait_for("the re-encryption", waiting, timeout=20, next_step="", poll=0.05)
            assert await work == 2

    asyncio.run(run())
    assert Fernet(NEW).decrypt(asyncio.run(tokens(target))["first"]) == _STORED


def test_a_block_that_stays_locked_fails_the_reencryption_and_nothing_is_changed(
    target: DatabaseTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with rows(target) as holder, holder.connection.transaction():
            await holder.connection.execute("SELECT FROM block_document FOR UPDATE")
            with pytest.raises(PlatformError, match=r"nothing was changed: .* lock timeout"):
                await reencrypt(target, *KEYS, timeout=20)

    monkeypatch.setattr(reencryption, "_LOCK_TIMEOUT", "100ms")
    before = asyncio.run(tokens(target))
    asyncio.run(run())
    assert asyncio.run(tokens(target)) == before


@pytest.mark.parametrize("variable", reencryption._VARIABLES)
@pytest.mark.parametrize("value", ["", "c2hvcnQ=", "no key of any kind"])
def test_an_invalid_key_is_refused_with_the_name_of_its_variable(variable: str, value: str) -> None:
    given = {**dict.fromkeys(reencryption._VARIABLES, OLD), variable: value}
    with pytest.raises(PlatformError, match=f"^{variable} is not a Fernet key") as refused:
        reencryption.keys(given)
    assert reencryption._VARIABLES[variable] in refused.value.next_step
    assert not value or value not in str(refused.value)


def test_prefect_encrypts_the_data_of_blocks_and_nothing_else() -> None:
    package = Path(prefect.__file__).parent
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search("fernet|encrypt_data", path.read_text(), re.IGNORECASE)
    }
    encrypted = {
        model.__name__
        for model in vars(orm_models).values()
        if isinstance(model, type) and "encrypt_data" in vars(model)
    }
    calls = re.findall(r"\bencrypt_fernet\(.*\)", Path(orm_models.__file__).read_text())

    assert users == {
        "server/database/orm_models.py",
        "server/models/block_documents.py",
        "server/utilities/encryption.py",
    }
    assert encrypted == {"BlockDocument"}
    assert calls == ["encrypt_fernet(session, data)"]
