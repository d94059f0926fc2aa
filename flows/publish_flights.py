"""Create the buckets of the object store and publish the flights of 2013, one object per day.

Runs in the flows image as a Kubernetes Job. An object is written only when it is missing or its
checksum differs. A second run is therefore cheap, and a run after an interruption or a loss
completes the data.
"""

from __future__ import annotations

import hashlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lib import object_store
from lib.flight_days import package_objects
from lib.refusal import NotYet, Refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RAW = "raw"
BUCKETS = (RAW, "results", "artifacts")
WAIT_SECONDS = 300
UPLOADS_AT_ONCE = 16


def publish(s3: S3Client, wait_seconds: float = WAIT_SECONDS) -> tuple[list[str], list[str]]:
    """Create missing buckets and write missing or changed objects; return their names and keys.

    Waits up to `wait_seconds` seconds for the store. Raises Refusal when it is not ready by then or
    does not accept the access key.
    """
    existing = _buckets(s3, time.monotonic() + wait_seconds)
    new_buckets = [bucket for bucket in BUCKETS if bucket not in existing]
    for bucket in new_buckets:
        with object_store.explained(f"New bucket s3://{bucket}"):
            s3.create_bucket(Bucket=bucket)
    published = _checksums(s3)
    new_objects = {
        key: content for key, content in package_objects() if published.get(key) != _md5(content)
    }
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        uploads = [
            pool.submit(object_store.write, s3, RAW, key, content)
            for key, content in new_objects.items()
        ]
        for upload in uploads:
            upload.result()
    return new_buckets, list(new_objects)


def _buckets(s3: S3Client, deadline: float) -> set[str]:
    while True:
        try:
            with object_store.explained(f"The object store {s3.meta.endpoint_url}"):
                return {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        except NotYet as not_yet:
            if time.monotonic() >= deadline:
                raise
            print(f"waiting: {not_yet.message}", flush=True)
            time.sleep(1)


def _checksums(s3: S3Client) -> dict[str, str]:
    """Return the MD5 of each object in the bucket, by key: the ETag of a single-part upload."""
    with object_store.explained(f"Bucket s3://{RAW}"):
        return {
            entry["Key"]: entry["ETag"].strip('"')
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=RAW)
            for entry in page.get("Contents", [])
        }


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def main() -> int:
    """Publish once; return the exit code, 0 when all buckets and objects exist."""
    try:
        buckets, objects = publish(object_store.client(UPLOADS_AT_ONCE))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 1
    print(f"buckets created: {', '.join(buckets) or 'none'}; objects written: {len(objects)}")
    return 0


# prefect-lint: ignore[PF001] fills the bucket in a Job of its own, before there is a server
if __name__ == "__main__":
    sys.exit(main())
