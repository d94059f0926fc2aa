"""The secrets that the local environment creates, in an emulator of Secrets Manager."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from tests.support import servers
from tests.support.secret_search import Secret, files, search
from tests.terraform.clients import Client, client
from tests.terraform.conftest import running_emulator
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


def secret_values(made: dict[str, dict[str, str]]) -> list[Secret]:
    """Return the values that no file and no output may contain."""
    return [
        Secret(f"{name} {key}", value) for name, keys in made.items() for key, value in keys.items()
    ]


def test_the_secrets_have_the_keys_that_the_charts_read(local: RootModule, manager: Client) -> None:
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


def test_no_secret_value_is_in_the_state_a_plan_or_the_output(
    local: RootModule, manager: Client
) -> None:
    given = {"secret_versions": '{"alerts": 1}', "alerts": json.dumps(ALERTS)}
    local.run("plan", "-out=plan", **given)
    local.run("apply", "plan", **given)
    first = values(manager)
    rotated = {**given, "secret_versions": '{"alerts": 1, "auth": 2, "database": 2}'}
    local.run("apply", "-json", "-auto-approve", **rotated)
    for arguments in (["show"], ["show", "-json"], ["show", "plan"], ["show", "-json", "plan"]):
        local.run(*arguments)
    local.run("state", "pull")
    local.refusal("apply", "-auto-approve", secret_versions='{"alerts": 2}')
    kept = [*files(local.path)]
    assert local.path / "terraform.tfstate.backup" in local.path.iterdir()
    secrets = [*secret_values(first), *secret_values(values(manager))]
    local.run("destroy", "-auto-approve")
    kept += [*files(local.path), ("what was printed", "".join(local.printed).encode())]

    assert len({each.value for each in secrets}) == 7 + 3
    found = search(secrets, kept)
    assert any(b"prefect/local/auth" in text for _, text in kept)
    assert not found


def test_a_second_plan_is_empty_and_a_second_apply_keeps_every_value(
    local: RootModule, manager: Client
) -> None:
    local.apply()
    before = values(manager)

    assert local.changes() == {}
    local.apply()
    assert values(manager) == before


def test_a_higher_version_replaces_the_value_of_that_secret_only(
    local: RootModule, manager: Client
) -> None:
    local.apply()
    before = values(manager)

    local.apply(secret_versions='{"auth": 2}')

    after = values(manager)
    assert [name for name in before if after[name] != before[name]] == ["auth"]


def test_a_higher_version_keeps_the_old_value_as_the_previous_one(
    local: RootModule, manager: Client
) -> None:
    local.apply()
    before = values(manager)["encryption"]

    local.apply(secret_versions='{"encryption": 2}')

    kept = manager.get_secret_value(SecretId="prefect/local/encryption", VersionStage="AWSPREVIOUS")
    assert json.loads(kept["SecretString"]) == before != values(manager)["encryption"]


def test_destroy_leaves_no_secret_without_a_recovery_window(
    local: RootModule, manager: Client
) -> None:
    local.apply()

    local.run("destroy", "-auto-approve")

    assert manager.list_secrets(IncludePlannedDeletion=True)["SecretList"] == []


def test_the_emulator_restores_its_data_after_a_restart(
    initialised: Callable[..., RootModule], s3: Client, tmp_path: Path
) -> None:
    (port,) = servers.free_ports(1)
    recording = {
        "MOTO_ENABLE_RECORDING": "1",
        "MOTO_RECORDER_FILEPATH": str(tmp_path / "recording"),
    }
    local = initialised(
        "environments/local",
        TF_VAR_object_store=s3.meta.endpoint_url,
        TF_VAR_emulator=f"http://127.0.0.1:{port}",
        TF_VAR_oidc_issuer="https://oidc.example.org/id/LOCAL",
        AWS_ACCESS_KEY_ID=servers.ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=servers.SECRET_KEY,
    )
    with running_emulator(port, tmp_path / "first.log", **recording) as url:
        httpx.post(f"{url}/moto-api/seed?a=1").raise_for_status()
        client("iam", url).create_open_id_connect_provider(
            Url="https://oidc.example.org/id/LOCAL", ThumbprintList=["0" * 40]
        )
        local.run("apply", "-auto-approve", "-parallelism=1")
        before = values(client("secretsmanager", url))

    with running_emulator(port, tmp_path / "second.log", **recording) as url:
        httpx.post(f"{url}/moto-api/recorder/replay-recording", timeout=60).raise_for_status()
        after = values(client("secretsmanager", url))
        planned = local.changes()

    assert len(before) == 4
    assert after == before
    assert planned == {}
