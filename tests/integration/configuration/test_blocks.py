"""Blocks on a real server are read back as declared, and are saved as Prefect saves them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from prefect.client.orchestration import SyncPrefectClient
from prefect_aws import AwsCredentials, S3Bucket
from pydantic import SecretStr

from prefect_platform.configuration.blocks import block_types
from prefect_platform.configuration.blocks.blocks import Blocks
from prefect_platform.configuration.core.prefect_api import prefect_api
from prefect_platform.configuration.core.resource import Declared, Found, Inventory, Key, Kind
from prefect_platform.configuration.core.secret_values import reveal, secret_steps
from tests.support.servers import prefect_server
from tests.support.strategies_blocks import Section, sections

BLOCKS = Blocks()
HEX = "0123456789abcdef0123456789abcdef"


class Hidden(str):
    """A value that comes from a Secret."""

    __slots__ = ()


def _google_account() -> dict[str, Any]:
    """Return credentials of a service account with a real key, which Google's library parses."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "p",
        "client_email": "a@p.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    hidden = {name: Hidden(value) for name, value in account.items()}
    return {"project": "p", "service_account_info": hidden}


_GOOGLE = _google_account()

# For each installed type, fields with which it can be used.
EXAMPLES: dict[str, dict[str, Any]] = {
    "aws-credentials": {
        "aws_access_key_id": "AKIA",
        "aws_secret_access_key": Hidden("sesame"),
        "aws_client_parameters": {"endpoint_url": "http://s3", "config": {"retries": {"max": 1}}},
    },
    "aws-secret": {
        "aws_credentials": {"aws_secret_access_key": Hidden("sesame")},
        "secret_name": "s",
    },
    "custom-webhook": {
        "name": "w",
        "url": "https://host/{{token}}",
        "json_data": {"text": "{{body}}", "list": [1, 2.5, None]},
        "secrets": {"token": Hidden("sesame")},
    },
    "discord-webhook": {"webhook_id": Hidden("123456"), "webhook_token": Hidden("abcdef")},
    "email": {
        "host": "smtp.example.org",
        "username": "alerts",
        "password": Hidden("sesame"),
        "sender": "alerts@example.org",
        "recipients": ["team@example.org"],
    },
    "gcp-credentials": _GOOGLE,
    "gcpsecret": {"gcp_credentials": _GOOGLE, "secret_name": "s"},
    "gcs-bucket": {"bucket": "b", "bucket_folder": "f/", "gcp_credentials": _GOOGLE},
    "k8s-job": {"v1_job": {"kind": "Job", "spec": {"containers": []}}},
    "kubernetes-cluster-config": {"config": {"clusters": []}, "context_name": "c"},
    "kubernetes-credentials": {"cluster_config": {"config": {"a": 1}, "context_name": "c"}},
    "lambda-function": {"function_name": "f"},
    "local-file-system": {"basepath": "~/data"},
    "mattermost-webhook": {"hostname": "host", "token": Hidden(HEX), "channels": ["a"]},
    "minio-credentials": {"minio_root_user": "u", "minio_root_password": Hidden("sesame")},
    "ms-teams-webhook": {
        "url": Hidden(
            "https://prod-1.x.logic.azure.com:443/workflows/"
            f"{HEX}/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ft&sv=1.0&sig=abc"
        )
    },
    "opsgenie-webhook": {"apikey": Hidden(HEX), "target_user": ["someone"], "details": {"a": "b"}},
    "pager-duty-webhook": {
        "integration_key": Hidden(HEX),
        "api_key": Hidden(HEX),
        "clickable_url": "https://host/runs",
    },
    "redis-database": {"host": "redis", "password": Hidden("sesame")},
    "redisstoragecontainer": {"host": "redis", "password": Hidden("sesame")},
    "remote-file-system": {"basepath": "memory://x", "settings": {"key": {"deep": True}}},
    "s3-bucket": {
        "bucket_name": "b",
        "bucket_folder": "f/",
        "credentials": {"minio_root_user": "u", "minio_root_password": Hidden("sesame")},
    },
    "secret": {"value": Hidden("sesame")},
    "sendgrid-email": {
        "api_key": Hidden("abc"),
        "sender_email": "a@b.org",
        "to_emails": ["c@d.org"],
    },
    "slack-webhook": {"url": Hidden("https://hooks.slack.com/services/T1/B2/abc")},
    "smb": {"share_path": "/s", "smb_host": "h", "smb_password": Hidden("sesame")},
    "twilio-sms": {
        "account_sid": f"AC{HEX}",
        "auth_token": Hidden(HEX),
        "from_phone_number": "+15555550100",
        "to_phone_numbers": ["+15555550101"],
    },
    "webhook": {"url": Hidden("https://host"), "headers": {"Authorization": Hidden("Bearer x")}},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    with (
        prefect_server(tmp_path_factory.mktemp("server")) as url,
        prefect_api(url, "") as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def no_blocks(client: SyncPrefectClient) -> None:
    apply(client, [])


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=sections(), second=sections())
def test_any_blocks_are_read_back_as_declared_whatever_was_there_before(
    client: SyncPrefectClient, tmp_path: Path, first: Section, second: Section
) -> None:
    for section in (first, second):
        source, secrets = section.written(tmp_path)
        declared = Blocks().declare(source, secrets)
        apply(client, declared)
        assert read(client) == {each.key.name: each.body for each in declared}


# Without its extra `bigquery`, prefect-gcp has this type but cannot create blocks of it.
USABLE = block_types.installed().keys() - {"bigquery-warehouse"}


@pytest.mark.parametrize("block_type", sorted(USABLE))
def test_prefect_saves_the_same_block(
    client: SyncPrefectClient, tmp_path: Path, block_type: str
) -> None:
    block_class = block_types.installed()[block_type]
    block_class(**plain(EXAMPLES[block_type])).save("theirs")
    declared = declare(EXAMPLES[block_type], f"{block_type}/ours", tmp_path)
    BLOCKS.create(client, Inventory(), declared)

    bodies = read(client)
    assert bodies[f"{block_type}/ours"] == bodies[f"{block_type}/theirs"] == declared.body
    ours, theirs = (document(client, block_type, name) for name in ("ours", "theirs"))
    assert ours["data"] == theirs["data"]
    assert ours["block_schema_id"] == theirs["block_schema_id"]
    loaded = [block_class.load(name) for name in ("ours", "theirs")]
    assert all(isinstance(each, block_class) for each in loaded)


def test_a_named_inner_block_is_read_as_a_reference(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    credentials = AwsCredentials(aws_secret_access_key=SecretStr("sesame"))
    credentials.save("keys")
    S3Bucket(bucket_name="b", credentials=credentials).save("theirs")
    declared = declare(
        {"bucket_name": "b", "credentials": {"block": "aws-credentials/keys"}},
        "s3-bucket/ours",
        tmp_path,
    )
    inventory = Inventory()
    inventory.add(BLOCKS.read(client, inventory))
    BLOCKS.create(client, inventory, declared)

    bodies = read(client)
    assert bodies["s3-bucket/theirs"] == bodies["s3-bucket/ours"] == declared.body
    loaded = S3Bucket.load("ours")
    assert isinstance(loaded, S3Bucket)
    assert isinstance(loaded.credentials, AwsCredentials)
    assert loaded.credentials.aws_secret_access_key == SecretStr("sesame")


def test_an_anonymous_inner_block_is_written_out(client: SyncPrefectClient) -> None:
    inner = AwsCredentials(region_name="r")
    inner._save_sync(is_anonymous=True)
    S3Bucket(bucket_name="b", credentials=inner).save("bucket")
    S3Bucket(bucket_name="b", credentials=AwsCredentials(region_name="r")).save("plain")

    bodies = read(client)
    assert set(bodies) == {"s3-bucket/bucket", "s3-bucket/plain"}
    assert bodies["s3-bucket/bucket"] == bodies["s3-bucket/plain"]
    assert bodies["s3-bucket/bucket"]["credentials"]["block_type_slug"] == "aws-credentials"


def test_all_pages_are_read(client: SyncPrefectClient, tmp_path: Path) -> None:
    first = BLOCKS.create(
        client, Inventory(), declare({"value": Hidden("x")}, "secret/n0", tmp_path)
    )
    found = client.request("GET", "/block_documents/{id}", path_params={"id": first}).json()
    for number in range(1, 203):
        client.request(
            "POST",
            "/block_documents/",
            json={
                "name": f"n{number}",
                "data": {"value": "x"},
                "block_type_id": found["block_type_id"],
                "block_schema_id": found["block_schema_id"],
            },
        )
    assert set(read(client)) == {f"secret/n{number}" for number in range(203)}


def test_a_block_whose_type_is_not_installed_is_read_as_stored(client: SyncPrefectClient) -> None:
    schema = {
        "type": "object",
        "properties": {"user": {}, "token": {}, "headers": {}},
        "secret_fields": ["token", "headers.*"],
        "block_type_slug": "elsewhere",
        "block_schema_references": {},
    }
    create_document(
        client, "elsewhere", schema, {"user": "u", "token": "sesame", "headers": {"a": "b"}}
    )
    (found,) = BLOCKS.read(client, Inventory())
    assert found.key == Key(Kind.BLOCK, "elsewhere/old")
    assert reveal(found.body) == {"user": "u", "token": "sesame", "headers": {"a": "b"}}
    assert secret_steps(found.body) == {("token",), ("headers", "a")}
    assert "sesame" not in repr(found)


def test_a_block_with_an_older_schema_is_updated_to_the_installed_one(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    declared = declare({"url": Hidden("https://h"), "method": "PUT"}, "webhook/old", tmp_path)
    schema = block_types.installed()["webhook"].model_json_schema()
    older = {
        **schema,
        "properties": {
            **{key: each for key, each in schema["properties"].items() if key != "verify"},
            "token": {"type": "string"},
        },
        "secret_fields": [*schema["secret_fields"], "token"],
    }
    create_document(
        client,
        "webhook",
        older,
        {"url": "https://h", "method": "PUT", "headers": {}, "token": "sesame"},
    )
    (found,) = BLOCKS.read(client, Inventory())
    assert "verify" not in found.body
    assert ("token",) in secret_steps(found.body)

    BLOCKS.update(client, Inventory(), declared, found)
    assert read(client) == {"webhook/old": declared.body}
    fields = document(client, "webhook", "old")["block_schema"]["fields"]
    assert "verify" in fields["properties"]
    assert "token" not in document(client, "webhook", "old")["data"]


def test_a_block_that_its_type_rejects_is_read_and_corrected(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    declared = declare({"url": Hidden("https://h")}, "webhook/broken", tmp_path)
    BLOCKS.create(client, Inventory(), declared)
    (found,) = BLOCKS.read(client, Inventory())
    client.request(
        "PATCH",
        "/block_documents/{id}",
        path_params={"id": found.id},
        json={"data": {"method": 5, "url": "sesame"}, "merge_existing_data": False},
    )
    (found,) = BLOCKS.read(client, Inventory())
    assert reveal(found.body) == {"method": 5, "url": "sesame"}
    assert "sesame" not in repr(found)
    BLOCKS.update(client, Inventory(), declared, found)
    assert read(client) == {"webhook/broken": declared.body}


def test_types_and_schemas_are_registered_once(client: SyncPrefectClient, tmp_path: Path) -> None:
    declared = declare(EXAMPLES["s3-bucket"], "s3-bucket/a", tmp_path)
    BLOCKS.create(client, Inventory(), declared)
    before = registered(client)
    (found,) = BLOCKS.read(client, Inventory())
    BLOCKS.update(client, Inventory(), declared, found)
    assert registered(client) == before


def test_deleting_a_block_twice_is_not_an_error(client: SyncPrefectClient, tmp_path: Path) -> None:
    BLOCKS.create(client, Inventory(), declare({"value": Hidden("x")}, "secret/gone", tmp_path))
    (found,) = BLOCKS.read(client, Inventory())
    BLOCKS.delete(client, found)
    BLOCKS.delete(client, found)
    assert read(client) == {}


def apply(client: SyncPrefectClient, declared: list[Declared]) -> None:
    """Make the server's blocks match the declared ones, in the order of their declaration."""
    inventory = Inventory()
    inventory.add(BLOCKS.read(client, inventory))
    for each in declared:
        found = inventory.get(each.key)
        if found is None:
            found = Found(each.key, BLOCKS.create(client, inventory, each), each.body)
            inventory.add([found])
        elif found.body != each.body:
            BLOCKS.update(client, inventory, each, found)
    for found in inventory.all():
        if found.key not in {each.key for each in declared}:
            BLOCKS.delete(client, found)


def read(client: SyncPrefectClient) -> dict[str, Any]:
    return {found.key.name: found.body for found in BLOCKS.read(client, Inventory())}


def declare(fields: dict[str, Any], name: str, directory: Path) -> Declared:
    """Return the declaration of a block whose hidden values come from a Secret."""
    section = Section({})

    def with_references(value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, Hidden):
            section.secrets[f"key-{len(section.secrets)}"] = str(value)
            return {"secret": {"name": "held", "key": f"key-{len(section.secrets) - 1}"}}
        if isinstance(value, dict):
            return {key: with_references(each) for key, each in value.items()}
        return value

    section.blocks[name] = with_references(fields)
    source, secrets = section.written(directory)
    (declared,) = Blocks().declare(source, secrets)
    return declared


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return str(value) if isinstance(value, Hidden) else value


def document(client: SyncPrefectClient, block_type: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.request(
        "GET",
        "/block_types/slug/{slug}/block_documents/name/{block_document_name}",
        path_params={"slug": block_type, "block_document_name": name},
        params={"include_secrets": True},
    ).json()
    return found


def create_document(
    client: SyncPrefectClient, block_type: str, schema: dict[str, Any], data: dict[str, Any]
) -> UUID:
    """Create the document `old` of a type, with a schema that no installed class registers."""
    types = client.request("POST", "/block_types/filter", json={}).json()
    ids = {each["slug"]: each["id"] for each in types}
    if block_type not in ids:
        made = client.request(
            "POST", "/block_types/", json={"name": block_type, "slug": block_type}
        )
        ids[block_type] = made.json()["id"]
    made = client.request(
        "POST", "/block_schemas/", json={"fields": schema, "block_type_id": ids[block_type]}
    )
    made = client.request(
        "POST",
        "/block_documents/",
        json={
            "name": "old",
            "data": data,
            "block_type_id": ids[block_type],
            "block_schema_id": made.json()["id"],
        },
    )
    return UUID(made.json()["id"])


def registered(client: SyncPrefectClient) -> list[tuple[str, str]]:
    """Return every type and schema with the time of its last change."""
    types = client.request("POST", "/block_types/filter", json={}).json()
    schemas = client.request("POST", "/block_schemas/filter", json={}).json()
    return sorted((each["id"], each["updated"]) for each in types + schemas)
