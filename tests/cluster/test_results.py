"""Results outlive their pod: other pods of the pool can read them, and hit them in the cache."""

import datetime as dt
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import boto3
import pytest
from mypy_boto3_s3 import S3Client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from prefect_platform_cli.deploy.connection import connected
from tests.cluster import stored_results
from tests.cluster.deployed import (
    JOBS,
    SMALL,
    Platform,
    deploy_code,
    eventually,
    final,
    messages,
    pool_concurrency,
    read_secret,
    task_states,
    tell,
)
from tests.support import records

Begin = Callable[..., FlowRun]
Scenario = Callable[[SyncPrefectClient, Begin, S3Client], list[FlowRun]]

_FOREIGN_OBJECTS = (("results", "other/theirs"), ("backups", "dump"))


def returned_and_read(prefect: SyncPrefectClient, begin: Begin, _: S3Client) -> list[FlowRun]:
    written = completed(prefect, begin("returning", number=1))
    return [written, completed(prefect, begin("reading", of=described(written)))]


def cached_and_expired(
    prefect: SyncPrefectClient, begin: Begin, administrator: S3Client
) -> list[FlowRun]:
    def square() -> FlowRun:
        return completed(prefect, begin("squaring", number=7))

    within = [square(), square()]
    records.age(administrator, dt.timedelta(hours=1))
    return [*within, square()]


def both_at_once(prefect: SyncPrefectClient, begin: Begin, _: S3Client) -> list[FlowRun]:
    runs = [begin("computing_alone", number=3) for _ in range(2)]
    wait_until_begun(prefect, runs)
    open_gate(prefect, runs)
    return [completed(prefect, run) for run in runs]


def trespassing(prefect: SyncPrefectClient, begin: Begin, _: S3Client) -> list[FlowRun]:
    return [completed(prefect, begin("trespassing"))]


_SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (returned_and_read, cached_and_expired, both_at_once, trespassing)
}


@pytest.fixture
def begin(prefect: SyncPrefectClient) -> Iterator[Begin]:
    """Return a function that starts a flow of `stored_results` with parameters."""
    with beginning(prefect) as start:
        yield start


@pytest.fixture(scope="module")
def scenarios(platform: Platform) -> dict[str, Future[list[FlowRun]]]:
    """Run all of _SCENARIOS in parallel, and return their outcomes by name."""
    with (
        ThreadPoolExecutor(len(_SCENARIOS)) as pool,
        pool_concurrency(platform.kubectl, len(_SCENARIOS) + 1),
        as_administrator(platform) as administrator,
        foreign_objects(administrator),
    ):

        def run(scenario: Scenario) -> list[FlowRun]:
            with connected(platform.kubectl) as prefect, beginning(prefect) as begin:
                return scenario(prefect, begin, administrator)

        ended = {name: pool.submit(run, scenario) for name, scenario in _SCENARIOS.items()}
        wait(ended.values())
    return ended


@contextmanager
def beginning(prefect: SyncPrefectClient) -> Iterator[Begin]:
    """Yield a function that starts a flow of `stored_results` with parameters."""
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
    """Yield a client of the object store that has all permissions."""
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
def foreign_objects(administrator: S3Client) -> Iterator[None]:
    """Store a result of another pool and a backup, and delete them at the end of the block."""
    administrator.create_bucket(Bucket="backups")
    for bucket, key in _FOREIGN_OBJECTS:
        administrator.put_object(Bucket=bucket, Key=key, Body=b"theirs")
    try:
        yield
    finally:
        for bucket, key in _FOREIGN_OBJECTS:
            administrator.delete_object(Bucket=bucket, Key=key)
        administrator.delete_bucket(Bucket="backups")


def test_a_pod_reads_the_result_of_another_pod(
    scenarios: dict[str, Future[list[FlowRun]]],
) -> None:
    _, read = scenarios["returned_and_read"].result()

    assert read.state is not None
    assert read.state.message == hashlib.sha256(stored_results.content(1)).hexdigest()


def test_another_pod_hits_the_cache_until_the_result_expires(
    prefect: SyncPrefectClient, scenarios: dict[str, Future[list[FlowRun]]]
) -> None:
    runs = scenarios["cached_and_expired"].result()

    assert [task_states(prefect, run) for run in runs] == [
        {"square": "Completed"},
        {"square": "Cached"},
        {"square": "Completed"},
    ]


def test_two_pods_that_need_the_same_result_compute_it_once(
    prefect: SyncPrefectClient, scenarios: dict[str, Future[list[FlowRun]]]
) -> None:
    runs = scenarios["both_at_once"].result()

    states = [task_states(prefect, run)["exclusive"] for run in runs]
    assert sorted(states) == ["Cached", "Completed"]


def test_the_key_of_a_pod_gives_no_access_to_foreign_results_or_backups(
    scenarios: dict[str, Future[list[FlowRun]]],
) -> None:
    (run,) = scenarios["trespassing"].result()

    assert run.state is not None
    found = json.loads(str(run.state.message))
    assert found == dict.fromkeys(found, "AccessDenied")


def test_no_result_is_lost_when_the_object_store_is_killed(
    platform: Platform, prefect: SyncPrefectClient, begin: Begin
) -> None:
    parts = ((0, 15), (15, 30))
    runs = [begin("writing", first=first, last=last) for first, last in parts]

    def in_data(*arguments: str) -> None:
        platform.kubectl("--namespace=data", *arguments)

    def kill() -> None:
        in_data("scale", "statefulset/object-store", "--replicas=0")
        kill_it = ("--grace-period=0", "--force", "--ignore-not-found")  # it may have ended
        in_data("delete", "pod", "object-store-0", *kill_it)

    def tried_again(run: FlowRun) -> bool:
        again = "A result could not be written; the next attempt is in"
        return any(again in line for line in messages(prefect, run.id))

    wait_until_begun(prefect, runs)
    kill()
    try:
        open_gate(prefect, runs)
        eventually("both runs try again", lambda: all(map(tried_again, runs)))
    finally:
        in_data("scale", "statefulset/object-store", "--replicas=1")
    for run in runs:
        completed(prefect, run)
    checked = completed(prefect, begin("checking", first=0, last=30))

    assert checked.state is not None
    assert json.loads(str(checked.state.message)) == list(range(30))


def test_no_block_in_the_api_contains_a_key_of_the_object_store(
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


def wait_until_begun(prefect: SyncPrefectClient, runs: list[FlowRun]) -> None:
    """Wait until all runs stand at the gate."""
    eventually(
        "all runs have begun",
        lambda: all("begins" in messages(prefect, run.id) for run in runs),
        within=300,
    )


def open_gate(prefect: SyncPrefectClient, runs: list[FlowRun]) -> None:
    """Let the runs go on."""
    for run in runs:
        tell(prefect, run.id, stored_results.OPEN)


def described(run: FlowRun) -> dict[str, Any]:
    """Return the final state of a run as JSON."""
    assert run.state is not None
    found: dict[str, Any] = run.state.model_dump(mode="json")
    return found


def completed(prefect: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Return the run when it has ended, and fail unless it completed."""
    ended = final(prefect, run)
    assert ended.state is not None
    assert ended.state.is_completed(), ended.state
    return ended
