"""What the policies of the roles allow pods to do, enforced by a real S3 server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.support import servers
from tests.terraform.clients import Client, client
from tests.terraform.root_module import RootModule


@pytest.fixture
def iam(emulator: str) -> Client:
    """Return a client of the emulator's IAM."""
    return client("iam", emulator)


def policy(iam: Client, role: str) -> str:
    """Return the policy of a role of the local environment."""
    found = iam.get_role_policy(RoleName=f"prefect-local-{role}", PolicyName="buckets")
    return json.dumps(found["PolicyDocument"])


@pytest.fixture
def client_of(local: RootModule, iam: Client, tmp_path: Path) -> Iterator[Callable[[str], Client]]:
    """Yield a function that returns a role's client of a server with objects of two pools."""
    local.apply()
    (tmp_path / "enforcing").mkdir()
    policies = {role: policy(iam, role) for role in ("default-jobs", "default-worker")}
    with servers.object_store(tmp_path / "enforcing", **policies) as variables:
        url = variables["AWS_ENDPOINT_URL_S3"]
        owner = client("s3", url, (servers.ACCESS_KEY, servers.SECRET_KEY))
        for bucket in ("results", "artifacts", "backups"):
            owner.create_bucket(Bucket=bucket)
        for bucket, key in (
            ("results", "default/results/cached"),
            ("results", "heavy/results/cached"),
            ("artifacts", "etl-daily/day"),
            ("artifacts", "other/day"),
            ("backups", "default/dump"),
        ):
            owner.put_object(Bucket=bucket, Key=key, Body=b"content")
        yield lambda role: client("s3", url, (role, role))


def denied(call: Callable[..., object], **arguments: object) -> bool:
    """Return whether the server denies access; fail the test if the call succeeds."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return bool(refused.value.response["Error"]["Code"] == "AccessDenied")


def test_job_pods_may_access_only_the_prefixes_of_their_pool_and_their_flows(
    client_of: Callable[[str], Client],
) -> None:
    s3 = client_of("default-jobs")

    for bucket, prefix in (("results", "default/results/"), ("artifacts", "etl-daily/")):
        s3.put_object(Bucket=bucket, Key=f"{prefix}new", Body=b"content")
        assert s3.get_object(Bucket=bucket, Key=f"{prefix}new")["Body"].read() == b"content"
        assert s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] == 2
        s3.delete_object(Bucket=bucket, Key=f"{prefix}new")
    for bucket, key in (
        ("results", "heavy/results/cached"),
        ("artifacts", "other/day"),
        ("backups", "default/dump"),
    ):
        assert denied(s3.get_object, Bucket=bucket, Key=key)
        assert denied(s3.put_object, Bucket=bucket, Key=key, Body=b"")
        assert denied(s3.delete_object, Bucket=bucket, Key=key)
        assert denied(s3.list_objects_v2, Bucket=bucket, Prefix=key.partition("/")[0])
        assert denied(s3.list_objects_v2, Bucket=bucket)


def test_a_worker_may_only_read_the_results_of_its_pool(
    client_of: Callable[[str], Client],
) -> None:
    s3 = client_of("default-worker")
    own = {"Bucket": "results", "Key": "default/results/cached"}

    assert s3.get_object(**own)["Body"].read() == b"content"
    assert denied(s3.put_object, **own, Body=b"")
    assert denied(s3.delete_object, **own)
    assert denied(s3.get_object, Bucket="results", Key="heavy/results/cached")
    assert denied(s3.get_object, Bucket="artifacts", Key="etl-daily/day")


def test_a_second_plan_is_empty_and_a_plan_reverts_a_widened_policy(
    local: RootModule, iam: Client
) -> None:
    local.apply()
    assert local.changes() == {}
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    iam.put_role_policy(
        RoleName="prefect-local-default-jobs",
        PolicyName="buckets",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}),
    )

    assert local.changes() == {
        'module.identity.aws_iam_role_policy.this["default-jobs"]': ["update"]
    }


def test_destroy_leaves_no_role(local: RootModule, iam: Client) -> None:
    local.apply()

    local.run("destroy", "-auto-approve")

    assert iam.list_roles()["Roles"] == []
