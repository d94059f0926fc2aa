"""Clients of the servers that the tests start, with their own credentials."""

from typing import Any

import boto3

Client = Any  # boto3 makes the classes of its clients at run time


def client(
    service: str, url: str, keys: tuple[str, str] = ("any", "any"), region: str = "us-east-1"
) -> Client:
    """Return a client of a service at `url`; the emulator accepts any keys."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
    )
