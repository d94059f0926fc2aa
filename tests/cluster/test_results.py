"""Results outlive their pod: another one reads them, hits them, and gets no others."""

import datetime as dt
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import boto3
import pytest
from mypy_boto3_s3 import S3Client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.objects import FlowRun

from tests.cluster import stored_results
from tests.cluster.deployed import (
    JOBS,
    Platform,
    deploy_code,
    eventually,
    final,
    messages,
    read_secret,
    task_states,
)
from tests.integration.results import records

Begin = Callable[..., FlowRun]


@pytest.fixture
def begin(prefect: SyncPrefectClient) -> Iterator[Begin]:
    """Return what starts a flow of `stored_results` with its parameters."""
    code = inspect.getsource(stored_results)

    deployed: dict[str, UUID] = {}

    def start(flow: str, **parameters: object) -> FlowRun:
        if flow not in deployed:
            deployed[flow] = deploy_code(prefect, flow, code)
        return prefect.create_flow_run_from_deployment(deployed[flow], parameters=parameters)

    yield start
    for each in deployed.values():
        prefect.delete_deployment(each)


@pytest.fixture
def administrator(platform: Platform) -> Iterator[S3Client]:
    """Return a client of the object store that may do everything."""
    keys = read_secret(platform.kubectl, "data", "object-store")
    with platform.kubectl.port_forward("service/object-store", 8333, namespace="data") as port:
        yield boto3.Session().client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=keys["access-key-id"],
            aws_secret_access_key=keys["secret-access-key"],
        )


def test_a_result_that_one_pod_returned_is_read_by_another(
    prefect: SyncPrefectClient, begin: Begin
) -> None:
    written = completed(prefect, begin("returning", number=1))
    read = completed(prefect, begin("reading", of=str(written.id)))

    assert read.state is not None
    assert read.state.message == hashlib.sha256(stored_results.content(1)).hexdigest()


def test_another_pod_hits_within_the_hour_and_misses_after_it(
    prefect: SyncPrefectClient, begin: Begin, administrator: S3Client
) -> None:
    def square() -> dict[str, str]:
        return task_states(prefect, completed(prefect, begin("squaring", number=7)))

    assert square() == {"square": "Completed"}
    assert square() == {"square": "Cached"}
    records.age(administrator, dt.timedelta(hours=1))
    assert square() == {"square": "Completed"}


def test_two_pods_that_need_one_result_compute_it_once(
    prefect: SyncPrefectClient, begin: Begin
) -> None:
    runs = [begin("computing_alone", number=3) for _ in range(2)]
    with gate_open(prefect, runs):
        states = [task_states(prefect, completed(prefect, run))["exclusive"] for run in runs]

    assert sorted(states) == ["Cached", "Completed"]


def test_a_store_that_is_killed_in_the_middle_costs_no_result(
    platform: Platform, prefect: SyncPrefectClient, begin: Begin
) -> None:
    parts = ((0, 15), (15, 30))
    runs = [begin("writing", first=first, last=last) for first, last in parts]

    def in_data(*arguments: str) -> None:
        platform.kubectl("--namespace=data", *arguments)

    def kill() -> None:
        in_data("scale", "statefulset/object-store", "--replicas=0")
        in_data("delete", "pod", "object-store-0", "--grace-period=0", "--force")

    def tried_again(run: FlowRun) -> bool:
        again = "A result was not written, and is tried again"
        return any(again in line for line in messages(prefect, run.id))

    with gate_open(prefect, runs, after=kill):
        try:
            eventually("both try again", lambda: all(map(tried_again, runs)))
        finally:
            in_data("scale", "statefulset/object-store", "--replicas=1")
        for run in runs:
            completed(prefect, run)
    checked = completed(prefect, begin("checking", first=0, last=30))

    assert checked.state is not None
    assert json.loads(str(checked.state.message)) == list(range(30))


def test_the_key_of_a_pod_opens_no_results_of_others_and_no_backups(
    prefect: SyncPrefectClient, begin: Begin, administrator: S3Client
) -> None:
    administrator.create_bucket(Bucket="backups")
    try:
        for bucket, key in (("results", "other/theirs"), ("backups", "dump")):
            administrator.put_object(Bucket=bucket, Key=key, Body=b"theirs")
        run = completed(prefect, begin("trespassing"))
    finally:
        for bucket, key in (("results", "other/theirs"), ("backups", "dump")):
            administrator.delete_object(Bucket=bucket, Key=key)
        administrator.delete_bucket(Bucket="backups")

    assert run.state is not None
    found = json.loads(str(run.state.message))
    assert found == dict.fromkeys(found, "AccessDenied")


def test_who_reads_every_block_through_the_api_finds_no_key_of_the_object_store(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    documents = prefect.read_block_documents(limit=200, include_secrets=True)
    written = json.dumps([each.model_dump(mode="json") for each in documents])
    keys = {
        value
        for namespace in ("data", JOBS)
        for value in read_secret(platform.kubectl, namespace, "object-store").values()
    }

    assert "s3-bucket" in written
    assert len(keys) >= 4
    assert not [key for key in keys if key in written]


@contextmanager
def gate_open(
    prefect: SyncPrefectClient, runs: list[FlowRun], after: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Open the gate when all runs have come to it and `after` has been called; close it again."""
    eventually("all have begun", lambda: all("begins" in messages(prefect, run.id) for run in runs))
    after()
    prefect.create_variable(VariableCreate(name=stored_results.GATE, value="open"))
    try:
        yield
    finally:
        prefect.delete_variable_by_name(stored_results.GATE)


def completed(prefect: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Return the run at its end, which must be a good one."""
    ended = final(prefect, run)
    assert ended.state is not None
    assert ended.state.is_completed(), ended.state
    return ended
