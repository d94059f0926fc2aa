"""Secrets as the local environment makes them, in an emulator of Secrets Manager."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.terraform.clients import Client, client
from tests.terraform.root_module import RootModule

ALERTS = {"slack-url": "https://hooks.example.org/services/T0/B0/of-the-tests"}


@pytest.fixture
def manager(emulator: str) -> Client:
    """Return a client of Secrets Manager."""
    return client("secretsmanager", emulator)


def values(manager: Client) -> dict[str, dict[str, str]]:
    """Return the values of all secrets by the last part of their name."""
    names = [each["Name"] for each in manager.list_secrets()["SecretList"]]
    return {
        name.removeprefix("prefect/local/"): json.loads(
            manager.get_secret_value(SecretId=name)["SecretString"]
        )
        for name in names
    }


def files(folder: Path) -> Iterator[bytes]:
    """Yield what is in all files below `folder`, hidden ones and the parts of a plan included."""
    for path in folder.rglob("*"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                yield from (parts.read(name) for name in parts.namelist())
        elif path.is_file():
            yield path.read_bytes()


def test_the_charts_find_the_keys_that_they_read(local: RootModule, manager: Client) -> None:
    local.apply(secret_versions='{"alerts": 1}', alerts=json.dumps(ALERTS))

    made = values(manager)
    password = made["database"]["password"]
    assert made["database"]["connection-url"] == (
        f"postgresql+asyncpg://prefect:{password}@prefect-server-database:5432/prefect"
    )
    assert made["auth"]["auth-string"].startswith("admin:")
    assert Fernet(made["encryption"]["key"]).decrypt(
        Fernet(made["encryption"]["key"]).encrypt(b"block")
    )
    assert (
        made["redis"]["url"] == f"redis://:{made['redis']['password']}@prefect-server-redis:6379/0"
    )
    assert made["alerts"] == ALERTS


def test_no_value_is_in_the_state_a_plan_or_what_is_printed(
    local: RootModule, manager: Client
) -> None:
    given = {"secret_versions": '{"alerts": 1}', "alerts": json.dumps(ALERTS)}
    local.run("plan", "-out=plan", **given)
    printed = local.run("apply", "-json", "plan", **given)
    printed += local.run("show", "-json", "plan") + local.run("show", "-json")
    printed += json.dumps(local.changes(**given))

    secrets = [value for made in values(manager).values() for value in made.values()]
    assert len(secrets) == 7
    kept = [*files(local.path), printed.encode()]
    assert any(b"prefect/local/auth" in text for text in kept)
    assert [value for value in secrets if any(value.encode() in text for text in kept)] == []


def test_a_second_plan_is_empty_and_applying_it_keeps_every_value(
    local: RootModule, manager: Client
) -> None:
    local.apply()
    before = values(manager)

    assert local.changes() == {}
    local.apply()
    assert values(manager) == before


def test_a_higher_version_makes_a_new_value_of_that_secret_alone(
    local: RootModule, manager: Client
) -> None:
    local.apply()
    before = values(manager)

    local.apply(secret_versions='{"auth": 2}')

    after = values(manager)
    assert [name for name in before if after[name] != before[name]] == ["auth"]


def test_the_value_before_a_higher_version_is_kept_as_the_previous_one(
    local: RootModule, manager: Client
) -> None:
    local.apply()
    before = values(manager)["encryption"]

    local.apply(secret_versions='{"encryption": 2}')

    kept = manager.get_secret_value(SecretId="prefect/local/encryption", VersionStage="AWSPREVIOUS")
    assert json.loads(kept["SecretString"]) == before != values(manager)["encryption"]


def test_destroying_leaves_no_secret_where_nothing_is_recovered(
    local: RootModule, manager: Client
) -> None:
    local.apply()

    local.run("destroy", "-auto-approve")

    assert manager.list_secrets(IncludePlannedDeletion=True)["SecretList"] == []
