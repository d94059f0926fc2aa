"""Buckets as the local environment makes them, on a real S3 server."""

from tests.support import servers
from tests.terraform.clients import Client
from tests.terraform.root_module import RootModule


def test_a_second_plan_is_empty_and_buckets_keep_objects_as_long_as_the_file_says(
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


def test_what_a_run_left_half_made_is_finished_by_the_next(local: RootModule, s3: Client) -> None:
    s3.create_bucket(Bucket="artifacts")
    told = local.refusal("apply", "-auto-approve")
    assert "creating S3 Bucket (artifacts)" in told
    s3.delete_bucket(Bucket="artifacts")

    local.apply()

    assert local.changes() == {}
    assert s3.get_bucket_versioning(Bucket="artifacts")["Status"] == "Enabled"


def test_what_somebody_changed_by_hand_is_planned_back(local: RootModule, s3: Client) -> None:
    local.apply()
    s3.put_bucket_versioning(Bucket="backups", VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_lifecycle(Bucket="results")

    assert local.changes() == {
        'module.storage.aws_s3_bucket_versioning.this["backups"]': ["update"],
        'module.storage.aws_s3_bucket_lifecycle_configuration.this["results"]': ["create"],
    }


def test_destroying_takes_empty_buckets_and_refuses_one_with_data(
    local: RootModule, s3: Client
) -> None:
    local.apply()
    s3.put_object(Bucket="results", Key="default/results/cached", Body=b"content")

    told = local.refusal("destroy", "-auto-approve")

    assert "deleting S3 Bucket (results)" in told
    assert "BucketNotEmpty" in told
    assert 'module.storage.aws_s3_bucket.this["results"]' in local.objects()
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["results"]
    (kept,) = s3.list_objects_v2(Bucket="results")["Contents"]
    assert kept["Key"] == "default/results/cached"


def test_without_a_credential_nothing_is_planned(local: RootModule) -> None:
    told = local.seeing("AWS_ACCESS_KEY_ID", "").seeing("AWS_SECRET_ACCESS_KEY", "").refusal("plan")

    assert "No valid credential sources found" in told


def test_a_wrong_credential_is_refused_while_nothing_is_done(local: RootModule, s3: Client) -> None:
    told = local.seeing("AWS_SECRET_ACCESS_KEY", "wrong").refusal("apply", "-auto-approve")

    assert "listing S3 Buckets" in told
    assert "SignatureDoesNotMatch" in told
    assert s3.list_buckets()["Buckets"] == []


def test_a_server_that_does_not_answer_is_refused_while_nothing_is_done(
    local: RootModule, s3: Client
) -> None:
    nowhere = f"http://127.0.0.1:{servers.free_ports(1)[0]}"

    told = local.refusal("apply", "-auto-approve", object_store=nowhere)

    assert "listing S3 Buckets" in told
    assert nowhere in told
    assert s3.list_buckets()["Buckets"] == []
