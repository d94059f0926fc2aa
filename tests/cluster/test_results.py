"""Results outlive their pod: another one reads them, hits them, and gets no others."""

import datetime as dt
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from uuid import UUID

import boto3
import pytest
from mypy_boto3_s3 import S3Client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.objects import FlowRun

from prefect_platform_cli.deploy.connection import connected
from tests.cluster import stored_results
from tests.cluster.deployed import (
    JOBS,
    SMALL,
    Platform,
    at_a_time,
    deploy_code,
    eventually,
    final,
    messages,
    read_secret,
    task_states,
)
from tests.support import records

Begin = Callable[..., FlowRun]
Chain = Callable[[SyncPrefectClient, Begin, S3Client], list[FlowRun]]

_THEIRS = (("results", "other/theirs"), ("backups", "dump"))


def returned_and_read(prefect: SyncPrefectClient, begin: Begin, _: S3Client) -> list[FlowRun]:
    written = completed(prefect, begin("returning", number=1))
    return [written, completed(prefect, begin("reading", of=str(written.id)))]


def first_soon_and_late(
    prefect: SyncPrefectClient, begin: Begin, administrator: S3Client
) -> list[FlowRun]:
    def square() -> FlowRun:
        return completed(prefect, begin("squaring", number=7))

    within = [square(), square()]
    records.age(administrator, dt.timedelta(hours=1))
    return [*within, square()]


def both_at_once(prefect: SyncPrefectClient, begin: Begin, _: S3Client) -> list[FlowRun]:
    runs = [begin("computing_alone", number=3) for _ in range(2)]
    with gate_open(prefect, runs):
        return [completed(prefect, run) for run in runs]


def trespassing(prefect: SyncPrefectClient, begin: Begin, _: S3Client) -> list[FlowRun]:
    return [completed(prefect, begin("trespassing"))]


_CHAINS: dict[str, Chain] = {
    each.__name__: each
    for each in (returned_and_read, first_soon_and_late, both_at_once, trespassing)
}


@pytest.fixture
def begin(prefect: SyncPrefectClient) -> Iterator[Begin]:
    """Return what starts a flow of `stored_results` with its parameters."""
    with beginning(prefect) as start:
        yield start


@pytest.fixture(scope="module")
def chains(platform: Platform) -> dict[str, Future[list[FlowRun]]]:
    """Return what has become of each of _CHAINS; they are run side by side."""
    with (
        ThreadPoolExecutor(len(_CHAINS)) as pool,
        at_a_time(platform.kubectl, len(_CHAINS) + 1),
        as_administrator(platform) as administrator,
        results_of_others(administrator),
    ):

        def run(chain: Chain) -> list[FlowRun]:
            with connected(platform.kubectl) as prefect, beginning(prefect) as begin:
                return chain(prefect, begin, administrator)

        ended = {name: pool.submit(run, chain) for name, chain in _CHAINS.items()}
        wait(ended.values())
    return ended


@contextmanager
def beginning(prefect: SyncPrefectClient) -> Iterator[Begin]:
    """Yield what starts a flow of `stored_results` with its parameters."""
    code = inspect.getsource(stored_results)
    deployed: dict[str, UUID] = {}

    def start(flow: str, **parameters: object) -> FlowRun:
        if flow not in deployed:
            deployed[flow] = deploy_code(prefect, flow, code)
        return prefect.create_flow_run_from_deployment(
            deployed[flow], parameters=parameters, job_variables=SMALL
        )

    try:
        yield start
    finally:
        for each in deployed.values():
            prefect.delete_deployment(each)


@contextmanager
def as_administrator(platform: Platform) -> Iterator[S3Client]:
    """Yield a client of the object store that may do everything."""
    keys = read_secret(platform.kubectl, "data", "object-store")
    with platform.kubectl.port_forward("service/object-store", 8333, namespace="data") as port:
        yield boto3.Session().client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=keys["access-key-id"],
            aws_secret_access_key=keys["secret-access-key"],
        )


@contextmanager
def results_of_others(administrator: S3Client) -> Iterator[None]:
    """Have a result of another pool in the store, and a backup."""
    administrator.create_bucket(Bucket="backups")
    for bucket, key in _THEIRS:
        administrator.put_object(Bucket=bucket, Key=key, Body=b"theirs")
    try:
        yield
    finally:
        for bucket, key in _THEIRS:
            administrator.delete_object(Bucket=bucket, Key=key)
        administrator.delete_bucket(Bucket="backups")


def test_a_result_that_one_pod_returned_is_read_by_another(
    chains: dict[str, Future[list[FlowRun]]],
) -> None:
    _, read = chains["returned_and_read"].result()

    assert read.state is not None
    assert read.state.message == hashlib.sha256(stored_results.content(1)).hexdigest()


def test_another_pod_hits_within_the_hour_and_misses_after_it(
    prefect: SyncPrefectClient, chains: dict[str, Future[list[FlowRun]]]
) -> None:
    runs = chains["first_soon_and_late"].result()

    assert [task_states(prefect, run) for run in runs] == [
        {"square": "Completed"},
        {"square": "Cached"},
        {"square": "Completed"},
    ]


def test_two_pods_that_need_one_result_compute_it_once(
    prefect: SyncPrefectClient, chains: dict[str, Future[list[FlowRun]]]
) -> None:
    runs = chains["both_at_once"].result()

    states = [task_states(prefect, run)["exclusive"] for run in runs]
    assert sorted(states) == ["Cached", "Completed"]


def test_the_key_of_a_pod_opens_no_results_of_others_and_no_backups(
    chains: dict[str, Future[list[FlowRun]]],
) -> None:
    (run,) = chains["trespassing"].result()

    assert run.state is not None
    found = json.loads(str(run.state.message))
    assert found == dict.fromkeys(found, "AccessDenied")


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
