"""Results outlive their process, and one that cannot be written is no silent success."""

import hashlib
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.integration.results.computing import content
from tests.integration.results.conftest import OTHER, POOL, Store, of
from tests.integration.results.pods import Pods

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


@pytest.mark.parametrize("flow", ["submitting", "cubing", "in_a_transaction"])
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
