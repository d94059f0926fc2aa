"""Results outlive their process, and a run whose result cannot be written fails."""

import datetime as dt
import hashlib
import signal
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from prefect._internal.result_records import ResultRecord

from prefect_platform.polling import wait_until, wait_while
from tests.integration.results.computing import content
from tests.integration.results.conftest import OTHER, POOL, Store, key_variables, running_store
from tests.integration.results.pods import Pods
from tests.support import records

SIZE = 100_000


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return the file in which the flows record what they compute."""
    return tmp_path / "journal"


def test_a_result_returned_by_one_process_is_read_by_another(pods: Pods) -> None:
    written = pods.run("returning", number=1, size=SIZE)
    read = pods.run("reading", run_id=written)

    assert pods.state(written)["type"] == "COMPLETED", pods.log(written)
    expected = hashlib.sha256(content(1, SIZE)).hexdigest()
    assert pods.state(read)["message"] == expected, pods.log(read)


def test_another_process_uses_a_cached_result_until_it_expires(
    pods: Pods, store: Store, journal: Path
) -> None:
    def square() -> str:
        return pods.run("squaring", number=7, journal=str(journal))

    first, second = square(), square()
    assert journal.read_text().splitlines() == ["squared 7"], pods.log(first)
    assert pods.task_states(second) == ["Cached"]

    s3 = store.client()
    hour, now = dt.timedelta(hours=1), dt.datetime.now(dt.UTC)
    expirations = records.expirations(s3)
    assert expirations
    assert all(now < each <= now + hour for each in expirations)
    records.age(s3, hour)
    third = square()
    assert journal.read_text().splitlines() == ["squared 7", "squared 7"], pods.log(third)
    assert pods.task_states(third) == ["Completed"]


def test_a_failed_state_returned_by_a_task_is_not_cached(pods: Pods, journal: Path) -> None:
    run = pods.run("refusing", number=5, journal=str(journal))

    assert pods.state(run)["message"] == "Failed FAILED, Failed FAILED", pods.log(run)
    assert journal.read_text().splitlines() == ["refused 5", "refused 5"]


def test_a_flow_that_returns_a_failed_state_is_retried_in_the_same_process(
    pods: Pods, journal: Path
) -> None:
    run = pods.run("failing_again", journal=str(journal))

    state = pods.state(run)
    assert (state["name"], state["message"]) == ("Failed", "a cause of its own"), pods.log(run)
    assert journal.read_text().splitlines() == ["tried"] * 3


def test_no_result_is_lost_when_the_store_hangs_temporarily(
    pods: Pods, store: Store, tmp_path: Path
) -> None:
    run = pods.create("pieces", **_parameters(tmp_path))
    with pods.started(run, RESULT_WRITE_SECONDS="120") as process:
        _wait_for_the_first_piece(tmp_path)
        store.process.send_signal(signal.SIGSTOP)
        try:
            (tmp_path / "gate").touch()
            message = "A result could not be written; the next attempt is in"
            assert wait_until(lambda: message in pods.log(run), 90), pods.log(run)
        finally:
            store.process.send_signal(signal.SIGCONT)
        process.wait(90)

    assert pods.state(run)["type"] == "COMPLETED", pods.log(run)
    _assert_intact(store, range(4))


def test_a_store_crash_keeps_written_results_intact_and_fails_the_run_with_the_cause(
    pods: Pods, tmp_path: Path
) -> None:
    data = tmp_path / "seaweedfs"
    data.mkdir()
    run = pods.create("pieces", **_parameters(tmp_path))
    with (
        running_store(data) as dying,
        pods.started(run, **(dying.variables | key_variables(POOL))) as process,
    ):
        _wait_for_the_first_piece(tmp_path)
        dying.process.kill()
        dying.process.wait()
        (tmp_path / "gate").touch()
        process.wait(90)

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "ResultNotWritten" in state["message"]
    assert dying.variables["AWS_ENDPOINT_URL_S3"] in state["message"]
    with running_store(data) as restarted:
        # The store accepts requests a moment before it knows its volumes.
        assert not wait_while(lambda: _read_error(restarted), 60)
        _assert_intact(restarted, range(1))


@pytest.mark.parametrize("flow", ["submitting", "cubing", "in_a_transaction", "judging"])
def test_a_run_fails_with_the_cause_when_a_task_result_cannot_be_written(
    pods: Pods, journal: Path, flow: str
) -> None:
    run = pods.run(flow, variables=key_variables(OTHER), number=2, journal=str(journal))

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "ResultNotWritten" in state["message"]
    assert "S3Bucket results-default" in state["message"]
    assert "AccessDenied" in state["message"]


def test_a_task_is_retried_when_its_result_cannot_be_written(pods: Pods, journal: Path) -> None:
    run = pods.run("submitting", variables=key_variables(OTHER), number=3, journal=str(journal))

    assert journal.read_text().splitlines() == ["cubed 3", "cubed 3"], pods.log(run)
    assert pods.task_states(run) == ["Failed"]


def test_a_run_fails_with_the_cause_when_the_flow_result_cannot_be_written(pods: Pods) -> None:
    run = pods.run("returning", variables=key_variables(OTHER), number=4, size=SIZE)

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "AccessDenied" in state["message"]


def test_a_failed_flow_keeps_its_own_message_when_nothing_can_be_written(pods: Pods) -> None:
    run = pods.run("failing", variables=key_variables(OTHER))

    assert pods.state(run)["message"] == "a cause of its own", pods.log(run)


def test_the_access_key_of_a_pool_grants_access_only_to_its_own_folder(store: Store) -> None:
    pool = store.client(POOL)
    pool.put_object(Bucket="results", Key="default/mine", Body=b"1")
    assert pool.get_object(Bucket="results", Key="default/mine")["Body"].read() == b"1"

    for key in ("other/theirs", "default2/theirs", "theirs"):
        store.client().put_object(Bucket="results", Key=key, Body=b"1")
        with pytest.raises(ClientError, match="AccessDenied"):
            pool.get_object(Bucket="results", Key=key)
        with pytest.raises(ClientError, match="AccessDenied"):
            pool.put_object(Bucket="results", Key=key, Body=b"2")
    with pytest.raises(ClientError, match="AccessDenied"):
        pool.put_object(Bucket="raw", Key="day", Body=b"2")


def _parameters(directory: Path) -> dict[str, object]:
    files = {name: str(directory / name) for name in ("journal", "gate")}
    return {"count": 4, "size": SIZE, **files}


def _wait_for_the_first_piece(directory: Path) -> None:
    journal = directory / "journal"
    assert wait_until(journal.exists, 60), "no piece after 60 s"


def _read_error(store: Store) -> str | None:
    """Return the error that reading the records raises, or None."""
    try:
        records.read(store.client())
    except ClientError as error:
        return str(error)
    return None


def _assert_intact(store: Store, numbers: range) -> None:
    """Check that all records in the bucket can be read and include the numbered pieces."""
    found = [
        ResultRecord[Any].deserialize(record).result
        for record in records.read(store.client()).values()
    ]
    assert {content(number, SIZE) for number in numbers} <= {
        each for each in found if isinstance(each, bytes)
    }
