"""Results outlive their process, and one that cannot be written is no silent success."""

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
from tests.integration.results.conftest import OTHER, POOL, Store, of, running_store
from tests.integration.results.pods import Pods
from tests.support import records

SIZE = 100_000


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """The file in which the flows note what they compute."""
    return tmp_path / "account"


def test_a_result_that_one_process_returned_is_read_by_another(pods: Pods) -> None:
    written = pods.run("returning", number=1, size=SIZE)
    read = pods.run("reading", of=written)

    assert pods.state(written)["type"] == "COMPLETED", pods.log(written)
    expected = hashlib.sha256(content(1, SIZE)).hexdigest()
    assert pods.state(read)["message"] == expected, pods.log(read)


def test_another_process_hits_within_the_hour_and_misses_after_it(
    pods: Pods, store: Store, account: Path
) -> None:
    def square() -> str:
        return pods.run("squaring", number=7, account=str(account))

    first, second = square(), square()
    assert account.read_text().splitlines() == ["squared 7"], pods.log(first)
    assert pods.task_states(second) == ["Cached"]

    s3 = store.client()
    hour, now = dt.timedelta(hours=1), dt.datetime.now(dt.UTC)
    expirations = records.expirations(s3)
    assert expirations
    assert all(now < each <= now + hour for each in expirations)
    records.age(s3, hour)
    third = square()
    assert account.read_text().splitlines() == ["squared 7", "squared 7"], pods.log(third)
    assert pods.task_states(third) == ["Completed"]


def test_a_task_that_returns_a_failure_has_failed_also_when_it_is_called_again(
    pods: Pods, account: Path
) -> None:
    run = pods.run("refusing", number=5, account=str(account))

    assert pods.state(run)["message"] == "Failed FAILED, Failed FAILED", pods.log(run)
    assert account.read_text().splitlines() == ["refused 5", "refused 5"]


def test_a_flow_that_returns_a_failure_is_tried_again_in_its_own_process(
    pods: Pods, account: Path
) -> None:
    run = pods.run("failing_again", account=str(account))

    state = pods.state(run)
    assert (state["name"], state["message"]) == ("Failed", "a cause of its own"), pods.log(run)
    assert account.read_text().splitlines() == ["tried"] * 3


def test_a_store_that_is_silent_for_a_while_costs_no_result(
    pods: Pods, store: Store, tmp_path: Path
) -> None:
    run = pods.create("pieces", **_pieces(tmp_path))
    with pods.started(run, RESULT_WRITE_SECONDS="120") as process:
        _wait_for_the_first_piece(tmp_path)
        store.process.send_signal(signal.SIGSTOP)
        try:
            (tmp_path / "gate").touch()
            again = "A result was not written, and is tried again"
            assert wait_until(lambda: again in pods.log(run), 90), pods.log(run)
        finally:
            store.process.send_signal(signal.SIGCONT)
        process.wait(90)

    assert pods.state(run)["type"] == "COMPLETED", pods.log(run)
    _assert_whole(store, range(4))


def test_a_store_that_dies_leaves_whole_results_and_a_run_that_says_why(
    pods: Pods, tmp_path: Path
) -> None:
    data = tmp_path / "seaweedfs"
    data.mkdir()
    run = pods.create("pieces", **_pieces(tmp_path))
    with (
        running_store(data) as dying,
        pods.started(run, **(dying.variables | of(POOL))) as process,
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
        # Its volumes are known to it a moment after it takes requests.
        assert not wait_while(lambda: _unreadable(restarted), 60)
        _assert_whole(restarted, range(1))


@pytest.mark.parametrize("flow", ["submitting", "cubing", "in_a_transaction", "judging"])
def test_a_task_whose_result_is_refused_fails_with_the_cause(
    pods: Pods, account: Path, flow: str
) -> None:
    run = pods.run(flow, by=of(OTHER), number=2, account=str(account))

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "ResultNotWritten" in state["message"]
    assert "S3Bucket results-default" in state["message"]
    assert "AccessDenied" in state["message"]


def test_the_retries_of_a_task_are_used_when_its_result_is_refused(
    pods: Pods, account: Path
) -> None:
    run = pods.run("submitting", by=of(OTHER), number=3, account=str(account))

    assert account.read_text().splitlines() == ["cubed 3", "cubed 3"], pods.log(run)
    assert pods.task_states(run) == ["Failed"]


def test_a_flow_whose_own_result_is_refused_fails_with_the_cause(pods: Pods) -> None:
    run = pods.run("returning", by=of(OTHER), number=4, size=SIZE)

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "AccessDenied" in state["message"]


def test_a_flow_that_fails_keeps_its_own_cause_when_nothing_can_be_written(pods: Pods) -> None:
    run = pods.run("failing", by=of(OTHER))

    assert pods.state(run)["message"] == "a cause of its own", pods.log(run)


def test_the_key_of_a_pool_opens_its_own_folder_alone(store: Store) -> None:
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


def _pieces(directory: Path) -> dict[str, object]:
    files = {name: str(directory / name) for name in ("account", "gate")}
    return {"count": 4, "size": SIZE, **files}


def _wait_for_the_first_piece(directory: Path) -> None:
    account = directory / "account"
    assert wait_until(account.exists, 60), "no piece after 60 s"


def _unreadable(store: Store) -> str | None:
    """Return why the records cannot be read; None when they can."""
    try:
        records.read(store.client())
    except ClientError as error:
        return str(error)
    return None


def _assert_whole(store: Store, numbers: range) -> None:
    """Every record in the bucket can be read, and the numbered pieces are among them."""
    found = [
        ResultRecord[Any].deserialize(record).result
        for record in records.read(store.client()).values()
    ]
    assert {content(number, SIZE) for number in numbers} <= {
        each for each in found if isinstance(each, bytes)
    }
