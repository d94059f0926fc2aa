"""Buckets as the local environment makes them, on a real S3 server."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest

from tests.terraform.root_module import RootModule

S3 = Any  # boto3 makes the classes of its clients at run time


@pytest.fixture
def s3(object_store: dict[str, str]) -> S3:
    """Return a client of SeaweedFS."""
    return boto3.client(
        "s3",
        endpoint_url=object_store["AWS_ENDPOINT_URL_S3"],
        region_name=object_store["AWS_REGION"],
        aws_access_key_id=object_store["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=object_store["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture
def local(
    initialised: Callable[..., RootModule], object_store: dict[str, str], emulator: str
) -> RootModule:
    """Return the local environment, ready to be applied to servers of the test's own."""
    return initialised(
        "environments/local",
        TF_VAR_object_store=object_store["AWS_ENDPOINT_URL_S3"],
        TF_VAR_emulator=emulator,
        AWS_ACCESS_KEY_ID=object_store["AWS_ACCESS_KEY_ID"],
        AWS_SECRET_ACCESS_KEY=object_store["AWS_SECRET_ACCESS_KEY"],
    )


def test_a_second_plan_is_empty_and_buckets_keep_objects_as_long_as_the_file_says(
    local: RootModule, s3: S3
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


def test_what_somebody_changed_by_hand_is_planned_back(local: RootModule, s3: S3) -> None:
    local.apply()
    s3.put_bucket_versioning(Bucket="backups", VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_lifecycle(Bucket="results")

    assert local.changes() == {
        'module.storage.aws_s3_bucket_versioning.this["backups"]': ["update"],
        'module.storage.aws_s3_bucket_lifecycle_configuration.this["results"]': ["create"],
    }


def test_destroying_takes_empty_buckets_and_refuses_one_with_data(
    local: RootModule, s3: S3
) -> None:
    local.apply()
    s3.put_object(Bucket="artifacts", Key="etl-daily/2013-01-01.parquet", Body=b"rows")

    told = local.refusal("destroy", "-auto-approve")

    assert "deleting S3 Bucket (artifacts)" in told
    assert "BucketNotEmpty" in told
    assert local.resources() == ['module.storage.aws_s3_bucket.this["artifacts"]']
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["artifacts"]
    (kept,) = s3.list_objects_v2(Bucket="artifacts")["Contents"]
    assert kept["Key"] == "etl-daily/2013-01-01.parquet"
