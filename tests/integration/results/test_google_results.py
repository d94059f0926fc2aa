"""Results in Google Cloud Storage, by a block without a key, against an emulator."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.polling import wait_until
from tests.integration.results.computing import content
from tests.integration.results.gcs_emulator import Bucket, google_cloud_storage
from tests.integration.results.pods import Pods

SIZE = 100_000


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """Return the emulator with the bucket `results`."""
    with google_cloud_storage(tmp_path_factory.mktemp("google")) as google:
        google.create("results")
        yield google


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """Return the name of a bucket of the test's own, which is not there yet."""
    return f"late-{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"


def using(pods: Pods, google: Bucket, bucket: str) -> dict[str, str]:
    """Save a block for `bucket` without a key; return the variables of a pod that uses it."""
    block = f"gcs-bucket/{bucket}"
    variables = {**google.variables, "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK": block}
    pods.variables |= google.variables
    pods.save("prefect_gcp.GcsBucket", block, {"bucket": bucket, "bucket_folder": "default"})
    return variables


def test_a_result_that_one_process_wrote_is_read_by_another(pods: Pods, google: Bucket) -> None:
    by = using(pods, google, "results")

    written = pods.run("returning", by=by, number=11, size=SIZE)
    read = pods.run("reading", by=by, of=written)

    assert pods.state(written)["type"] == "COMPLETED", pods.log(written)
    expected = hashlib.sha256(content(11, SIZE)).hexdigest()
    assert pods.state(read)["message"] == expected, pods.log(read)
    keys = google.keys("results")
    assert keys
    assert all(key.startswith("default/") for key in keys)


def test_a_result_in_the_cache_is_hit_by_another_process(
    pods: Pods, google: Bucket, tmp_path: Path
) -> None:
    by, account = using(pods, google, "results"), tmp_path / "account"

    first, second = (pods.run("squaring", by=by, number=9, account=str(account)) for _ in range(2))

    assert account.read_text().splitlines() == ["squared 9"], pods.log(first)
    assert pods.task_states(second) == ["Cached"]


def test_a_write_that_is_refused_for_a_while_costs_no_result(
    pods: Pods, google: Bucket, bucket: str
) -> None:
    by = using(pods, google, bucket)
    run = pods.create("returning", number=12, size=SIZE)

    with pods.started(run, **by, RESULT_WRITE_SECONDS="120") as process:
        again = "A result was not written, and is tried again"
        assert wait_until(lambda: again in pods.log(run), 90), pods.log(run)
        google.create(bucket)
        process.wait(120)

    assert pods.state(run)["type"] == "COMPLETED", pods.log(run)
    assert len(google.keys(bucket)) == 1


def test_a_write_that_is_refused_to_the_end_fails_the_run_with_the_cause(
    pods: Pods, google: Bucket, bucket: str, tmp_path: Path
) -> None:
    by, account = using(pods, google, bucket), tmp_path / "account"

    run = pods.run("submitting", by=by, number=13, account=str(account))

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "ResultNotWritten" in state["message"]
    assert f"GcsBucket {bucket}" in state["message"]
    assert "404" in state["message"]
    assert account.read_text().splitlines() == ["cubed 13", "cubed 13"], pods.log(run)
