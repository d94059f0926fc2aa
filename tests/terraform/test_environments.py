"""Staging and production in an emulated account: state in a bucket, locks and errors."""

import json
from collections.abc import Callable

import pytest
import yaml
from botocore.exceptions import ClientError

from prefect_platform_cli.host.paths import REPOSITORY
from tests.support.rendering import external_secrets
from tests.support.secret_search import Secret, files, search
from tests.support.servers import free_ports
from tests.terraform.clients import client
from tests.terraform.conftest import STATE, account_client
from tests.terraform.root_module import RootModule

ENVIRONMENTS = REPOSITORY / "k8s/environments"
VALUES = ENVIRONMENTS / "production"


def buckets(emulator: str) -> list[str]:
    """Return the names of all buckets in the account."""
    return [each["Name"] for each in account_client("s3", emulator).list_buckets()["Buckets"]]


@pytest.mark.parametrize("name", ["staging", "production"])
def test_a_second_plan_is_empty_and_destroy_leaves_only_the_state(
    environment: Callable[[str], RootModule], emulator: str, name: str
) -> None:
    module = environment(name)
    module.apply()
    assert module.changes() == {}
    made = module.output("buckets")
    s3 = account_client("s3", emulator)
    assert s3.get_public_access_block(Bucket=made["backups"])[
        "PublicAccessBlockConfiguration"
    ] == dict.fromkeys(
        ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
    )
    with pytest.raises(ClientError, match="Forbidden"):  # the emulator has no TLS
        s3.put_object(Bucket=made["results"], Key="default/results/cached", Body=b"content")

    module.run("destroy", "-auto-approve")

    assert buckets(emulator) == [STATE]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=STATE)["Contents"]] == [
        f"{name}/terraform.tfstate"
    ]
    assert account_client("iam", emulator).list_roles()["Roles"] == []


def test_a_deleted_production_secret_can_be_restored(
    environment: Callable[[str], RootModule], emulator: str
) -> None:
    production = environment("production")
    production.apply()
    manager = account_client("secretsmanager", emulator)
    before = manager.get_secret_value(SecretId="prefect/production/encryption")["SecretString"]

    production.run("destroy", "-auto-approve")

    assert manager.list_secrets()["SecretList"] == []
    manager.restore_secret(SecretId="prefect/production/encryption")
    after = manager.get_secret_value(SecretId="prefect/production/encryption")["SecretString"]
    assert after == before


def test_the_state_in_the_bucket_contains_no_secret_value(
    environment: Callable[[str], RootModule], emulator: str
) -> None:
    production = environment("production")
    production.apply()
    manager, s3 = account_client("secretsmanager", emulator), account_client("s3", emulator)
    names = [each["Name"] for each in manager.list_secrets()["SecretList"]]
    secrets = [
        Secret(f"{name} {key}", value)
        for name in names
        for key, value in json.loads(
            manager.get_secret_value(SecretId=name)["SecretString"]
        ).items()
    ]
    state = s3.get_object(Bucket=STATE, Key="production/terraform.tfstate")["Body"].read()

    found = search(secrets, [("the state", state), *files(production.path)])

    assert len(secrets) >= 4
    assert b"prefect/production/encryption" in state
    assert not found


def test_a_versioned_bucket_with_a_deleted_object_is_not_destroyed(
    environment: Callable[[str], RootModule], emulator: str
) -> None:
    staging = environment("staging")
    staging.apply()
    s3 = account_client("s3", emulator)
    dump = {"Bucket": "example-prefect-staging-backups", "Key": "dump"}
    s3.delete_bucket_policy(Bucket=dump["Bucket"])  # it requires TLS, which the emulator lacks
    s3.put_object(**dump, Body=b"rows")
    s3.delete_object(**dump)

    error = staging.refusal("destroy", "-auto-approve")

    assert "deleting S3 Bucket (example-prefect-staging-backups)" in error
    (version,) = s3.list_object_versions(Bucket=dump["Bucket"])["Versions"]
    assert s3.get_object(**dump, VersionId=version["VersionId"])["Body"].read() == b"rows"


def test_a_run_is_refused_while_another_holds_the_state_lock(
    environment: Callable[[str], RootModule], emulator: str
) -> None:
    staging = environment("staging")
    held = {"ID": "first", "Who": "somebody@elsewhere", "Operation": "OperationTypeApply"}
    account_client("s3", emulator).put_object(
        Bucket=STATE, Key="staging/terraform.tfstate.tflock", Body=json.dumps(held)
    )

    error = staging.refusal("apply", "-auto-approve")

    assert "Error acquiring the state lock" in error
    assert "somebody@elsewhere" in error


@pytest.mark.parametrize(
    ("service", "doing"),
    [
        ("IAM", "listing IAM OpenID Connect Providers"),
        ("SECRETS_MANAGER", "generating a password"),
        ("STS", "validating provider credentials"),
    ],
)
def test_an_unreachable_service_is_reported_before_anything_changes(
    environment: Callable[[str], RootModule], emulator: str, service: str, doing: str
) -> None:
    staging = environment("staging")
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"

    error = staging.with_variable(f"AWS_ENDPOINT_URL_{service}", nowhere).refusal(
        "apply", "-auto-approve"
    )

    assert doing in error
    assert nowhere in error
    assert buckets(emulator) == [STATE]


def test_a_retention_period_shorter_than_the_servers_is_refused_before_anything_changes(
    environment: Callable[[str], RootModule], emulator: str
) -> None:
    staging = environment("staging")
    file = staging.path.parents[2] / "k8s/environments/staging/retention.yaml"
    file.write_text(file.read_text().replace("results: 21d", "results: 13d"))

    error = staging.refusal("apply", "-auto-approve")

    assert "retention.objects.results is 13d, but the server keeps runs for 14d" in error
    assert buckets(emulator) == [STATE]


def test_the_production_values_refer_to_the_created_roles_and_prefixes(
    environment: Callable[[str], RootModule],
) -> None:
    production = environment("production")
    production.apply()
    values = yaml.safe_load((VALUES / "worker.yaml").read_text())
    pools = {
        name: {**values["jobs"], **(pool or {}).get("jobs", {})}
        for name, pool in values["pools"].items()
    }
    blocks = yaml.safe_load((VALUES / "platform.yaml").read_text())["blocks"]

    annotated = {
        name: jobs["serviceAccountAnnotations"]["eks.amazonaws.com/role-arn"]
        for name, jobs in pools.items()
    }
    assert annotated == production.output("roles")["jobs"]
    for name, jobs in pools.items():
        block = blocks[jobs["results"]["storageBlock"]]
        assert block["bucket_name"] == production.output("buckets")["results"]
        assert f"{block['bucket_folder']}/".startswith(f"{name}/")


@pytest.mark.parametrize("name", ["staging", "production"])
def test_external_secrets_may_read_exactly_the_secrets_of_its_namespace(
    environment: Callable[[str], RootModule], emulator: str, name: str
) -> None:
    module = environment(name)
    module.apply()
    declared = external_secrets(name)
    roles = module.output("roles")["secrets"]
    assert {each["metadata"]["namespace"] for each in declared} == set(roles)

    iam = account_client("iam", emulator)
    for namespace, role in roles.items():
        (account,), (store,), secrets = (
            [
                each
                for each in declared
                if (each["metadata"]["namespace"], each["kind"]) == (namespace, kind)
            ]
            for kind in ("ServiceAccount", "SecretStore", "ExternalSecret")
        )
        aws = store["spec"]["provider"]["aws"]
        manager = client("secretsmanager", emulator, region=aws["region"])
        read = [
            manager.get_secret_value(SecretId=aws["prefix"] + entry["remoteRef"]["key"])
            | {"property": entry["remoteRef"]["property"]}
            for each in secrets
            for entry in each["spec"]["data"]
        ]
        assert all(json.loads(each["SecretString"])[each["property"]] for each in read)

        named = {"RoleName": role.rpartition("/")[2]}
        (trust,) = iam.get_role(**named)["Role"]["AssumeRolePolicyDocument"]["Statement"]
        policy = iam.get_role_policy(**named, PolicyName="secrets")["PolicyDocument"]
        assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": role}
        assert aws["auth"]["jwt"]["serviceAccountRef"]["name"] == account["metadata"]["name"]
        subject = f"system:serviceaccount:{namespace}:{account['metadata']['name']}"
        assert subject in trust["Condition"]["StringEquals"].values()
        (allowed,) = policy["Statement"]
        assert allowed["Action"] == "secretsmanager:GetSecretValue"
        assert set(allowed["Resource"]) == {each["ARN"] for each in read}
