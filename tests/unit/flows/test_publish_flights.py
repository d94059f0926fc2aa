"""Publish to a real S3 server, and read from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from lib import object_store
from lib.flight_days import PACKAGE_SOURCE, read_day
from lib.refusal import NotYet, Refusal
from publish_flights import BUCKETS, RAW, publish
from tests.support import servers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DAY = dt.date(2013, 2, 8)
KEY = "flights/2013-02-08.csv"


@pytest.fixture(scope="module")
def client_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with servers.object_store(tmp_path_factory.mktemp("seaweedfs")) as variables:
        yield variables


@pytest.fixture(autouse=True)
def _environment(client_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in client_environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def published(client_environment: dict[str, str]) -> tuple[list[str], list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in client_environment.items():
            patch.setenv(name, value)
        report: tuple[list[str], list[str]] = publish(object_store.client(16), wait_seconds=60)
        return report


@pytest.fixture
def s3(published: tuple[list[str], list[str]]) -> S3Client:
    assert published
    return object_store.client()


def test_the_first_run_creates_the_buckets_and_the_objects_of_every_day(
    published: tuple[list[str], list[str]],
) -> None:
    buckets, keys = published
    assert buckets == list(BUCKETS)
    assert len(keys) == 1 + 2 * 365


@pytest.mark.usefixtures("published")
def test_a_published_day_equals_the_day_in_the_package() -> None:
    assert read_day(f"s3://{RAW}", DAY) == read_day(PACKAGE_SOURCE, DAY)


def test_a_second_run_writes_nothing(s3: S3Client) -> None:
    assert publish(s3) == ([], [])


def test_missing_or_damaged_objects_are_published_again(s3: S3Client) -> None:
    s3.delete_object(Bucket=RAW, Key=KEY)
    s3.put_object(Bucket=RAW, Key="airlines.csv", Body=b"carrier,na")
    assert publish(s3) == ([], ["airlines.csv", KEY])
    assert read_day(f"s3://{RAW}", DAY) == read_day(PACKAGE_SOURCE, DAY)


def test_a_missing_object_is_named_with_the_next_step(s3: S3Client) -> None:
    with pytest.raises(NotYet) as refused:
        object_store.read(s3, RAW, "flights/1999-01-01.csv")
    assert refused.value.message == (
        f"Object s3://raw/flights/1999-01-01.csv at {s3.meta.endpoint_url} does not exist."
    )
    assert "make deploy-cluster" in refused.value.next_step


def test_a_missing_bucket_is_a_permanent_error(s3: S3Client) -> None:
    with pytest.raises(
        Refusal, match=r"s3://nowhere/a at .*: the bucket does not exist"
    ) as refused:
        object_store.write(s3, "nowhere", "a", b"")
    assert not isinstance(refused.value, NotYet)


@pytest.mark.parametrize(
    ("variable", "code"),
    [
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"),
    ],
)
@pytest.mark.usefixtures("published")
def test_a_wrong_access_key_is_a_permanent_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, code: str
) -> None:
    monkeypatch.setenv(variable, "wrong")
    with pytest.raises(Refusal, match=code) as refused:
        object_store.read(object_store.client(), RAW, KEY)
    assert not isinstance(refused.value, NotYet)


def test_the_wait_for_an_unreachable_store_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = servers.free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    with pytest.raises(NotYet, match=f"http://127.0.0.1:{port} cannot be reached"):
        publish(object_store.client(), wait_seconds=0)


def test_an_invalid_endpoint_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "object-store")
    with pytest.raises(Refusal, match="boto3 is not configured"):
        object_store.client()
