"""The buckets that the local environment creates, on a real S3 server."""

from tests.support import servers
from tests.terraform.clients import Client
from tests.terraform.root_module import RootModule


def test_a_second_plan_is_empty_and_buckets_have_the_configured_retention(
    local: RootModule, s3: Client
) -> None:
    local.apply()

    assert local.changes() == {}
    kept = {
        bucket: s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"][0]
        for bucket in ("results", "artifacts", "backups")
    }
    assert kept["results"]["Expiration"] == {"Days": 97}
    assert "Expiration" not in kept["artifacts"]
    assert kept["backups"]["Expiration"] == {"Days": 30}
    assert kept["backups"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert s3.get_bucket_versioning(Bucket="backups")["Status"] == "Enabled"


def test_the_next_run_completes_a_failed_one(local: RootModule, s3: Client) -> None:
    s3.create_bucket(Bucket="artifacts")
    error = local.refusal("apply", "-auto-approve")
    assert "creating S3 Bucket (artifacts)" in error
    s3.delete_bucket(Bucket="artifacts")

    local.apply()

    assert local.changes() == {}
    assert s3.get_bucket_versioning(Bucket="artifacts")["Status"] == "Enabled"


def test_a_plan_reverts_manual_changes(local: RootModule, s3: Client) -> None:
    local.apply()
    s3.put_bucket_versioning(Bucket="backups", VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_lifecycle(Bucket="results")

    assert local.changes() == {
        'module.storage.aws_s3_bucket_versioning.this["backups"]': ["update"],
        'module.storage.aws_s3_bucket_lifecycle_configuration.this["results"]': ["create"],
    }


def test_destroy_removes_empty_buckets_and_refuses_a_bucket_with_data(
    local: RootModule, s3: Client
) -> None:
    local.apply()
    s3.put_object(Bucket="results", Key="default/results/cached", Body=b"content")

    error = local.refusal("destroy", "-auto-approve")

    assert "deleting S3 Bucket (results)" in error
    assert "BucketNotEmpty" in error
    assert 'module.storage.aws_s3_bucket.this["results"]' in local.objects()
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["results"]
    (kept,) = s3.list_objects_v2(Bucket="results")["Contents"]
    assert kept["Key"] == "default/results/cached"


def test_a_plan_is_refused_without_credentials(local: RootModule) -> None:
    error = (
        local.with_variable("AWS_ACCESS_KEY_ID", "")
        .with_variable("AWS_SECRET_ACCESS_KEY", "")
        .refusal("plan")
    )

    assert "No valid credential sources found" in error


def test_wrong_credentials_are_refused_before_anything_changes(
    local: RootModule, s3: Client
) -> None:
    error = local.with_variable("AWS_SECRET_ACCESS_KEY", "wrong").refusal("apply", "-auto-approve")

    assert "listing S3 Buckets" in error
    assert "SignatureDoesNotMatch" in error
    assert s3.list_buckets()["Buckets"] == []


def test_an_unreachable_server_is_reported_before_anything_changes(
    local: RootModule, s3: Client
) -> None:
    nowhere = f"http://127.0.0.1:{servers.free_ports(1)[0]}"

    error = local.refusal("apply", "-auto-approve", object_store=nowhere)

    assert "listing S3 Buckets" in error
    assert nowhere in error
    assert s3.list_buckets()["Buckets"] == []
