"""Task results as stored in the bucket. Flow results are stored as plain values instead."""

import datetime as dt
import json
from typing import Any

from mypy_boto3_s3 import S3Client

BUCKET = "results"


def read(s3: S3Client) -> dict[str, bytes]:
    """Return the stored records of task results by their keys."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    found = {
        each["Key"]: bytes(s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read())
        for page in pages
        for each in page.get("Contents", [])
    }
    return {key: content for key, content in found.items() if content.startswith(b'{"metadata"')}


def expirations(s3: S3Client) -> list[dt.datetime]:
    """Return the expiration times of the results that have one."""
    metadata = [json.loads(record)["metadata"] for record in read(s3).values()]
    moments = [each["expiration"] for each in metadata if each["expiration"]]
    return [dt.datetime.fromisoformat(each) for each in moments]


def age(s3: S3Client, by: dt.timedelta) -> None:
    """Make all results older: move their expiration times back."""
    for key, content in read(s3).items():
        record: dict[str, Any] = json.loads(content)
        if expiration := record["metadata"]["expiration"]:
            older = dt.datetime.fromisoformat(expiration) - by
            record["metadata"]["expiration"] = older.isoformat()
            s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(record).encode())
