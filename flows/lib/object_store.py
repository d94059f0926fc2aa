"""Access to the object store, with boto3's errors explained.

boto3 reads the address, region and keys from the environment (AWS_ENDPOINT_URL_S3, AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or uses the pod's role.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from lib.refusal import NotYet, Refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


_LOOK = "kubectl --namespace data get pods,services (and check AWS_ENDPOINT_URL_S3)"
_PUBLISH = "make deploy-cluster, which publishes what is missing; then run the flow again"


def client(connections: int = 10) -> S3Client:
    """Return an S3 client for up to `connections` concurrent requests.

    Its timeouts are shorter than boto3's, so that it gives up sooner on a store that does not
    answer. Raises Refusal when boto3 is not configured.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=connections,
        retries={"mode": "standard", "max_attempts": 3},
    )
    with explained("The object store"):
        s3: S3Client = boto3.Session().client("s3", config=config)
        return s3


def read(s3: S3Client, bucket: str, key: str) -> bytes:
    """Return the content of an object; raises as `explained` does."""
    with explained(f"Object s3://{bucket}/{key} at {s3.meta.endpoint_url}"):
        content: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content


def write(s3: S3Client, bucket: str, key: str, content: bytes) -> None:
    """Write an object, replacing an existing one; raises as `explained` does."""
    with explained(f"Object s3://{bucket}/{key} at {s3.meta.endpoint_url}"):
        s3.put_object(Bucket=bucket, Key=key, Body=content)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn boto3's errors into messages about `what`, which is the subject of the sentence.

    Raises NotYet for errors that may pass with time (a missing object, a store that does not
    answer) and Refusal for errors that a person has to fix (bucket, access key, configuration).
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
    )

    try:
        yield
    except ClientError as error:
        code = error.response["Error"].get("Code")
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code == "NoSuchKey":
            raise NotYet(f"{what} does not exist.", next_step=_PUBLISH) from error
        if code == "NoSuchBucket":
            raise Refusal(f"{what}: the bucket does not exist.", next_step=_PUBLISH) from error
        if status == HTTPStatus.FORBIDDEN:
            raise Refusal(
                f"{what} is not accessible with this access key ({code}).",
                next_step="compare AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY with the Secret"
                " object-store in the namespace of the store",
            ) from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise NotYet(
                f"{what} cannot be reached: the object store is not ready ({code}).",
                next_step=_LOOK,
            ) from error
        raise
    except (NoCredentialsError, PartialCredentialsError, NoRegionError, ValueError) as error:
        raise Refusal(
            f"{what} cannot be reached: boto3 is not configured ({error}).",
            next_step="set AWS_REGION, AWS_ENDPOINT_URL_S3 (unless the store is Amazon S3),"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (unless the pod has a role)",
        ) from error
    except BotoCoreError as error:
        raise NotYet(f"{what} cannot be reached: {error}.", next_step=_LOOK) from error
