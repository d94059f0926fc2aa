"""The block that names the bucket of results; it holds no key, every pod brings its own."""

from prefect_aws import AwsCredentials, S3Bucket

BLOCK = "results"


def apply_result_storage(bucket: str) -> bool:
    """Save the block s3-bucket/results for `bucket`; True when anything changed.

    Uses the API of the surrounding `prefect_api` block.
    """
    wanted = S3Bucket(bucket_name=bucket, credentials=AwsCredentials())
    try:
        found = S3Bucket.load(BLOCK)
    except ValueError:  # what Prefect raises for a block that is not there
        found = None
    if isinstance(found, S3Bucket) and found.bucket_name == bucket:
        return False
    wanted.save(BLOCK, overwrite=True)
    return True
