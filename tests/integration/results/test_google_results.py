"""Results in Google Cloud Storage, written through a block without a key to an emulator."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.polling import wait_until
from tests.integration.results.computing import content
from tests.integration.results.gcs_emulator import Emulator, google_cloud_storage
from tests.integration.results.pods import Pods

SIZE = 100_000


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Yield an emulator with the bucket `results`."""
    with google_cloud_storage(tmp_path_factory.mktemp("google")) as google:
        google.create("results")
        yield google


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """Return the name of a bucket for this test, which does not exist yet."""
    return f"late-{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"


def use_bucket(pods: Pods, google: Emulator, bucket: str) -> dict[str, str]:
    """Save a block for `bucket` without a key; return the variables of a pod that uses it."""
    block = f"gcs-bucket/{bucket}"
    variables = {**google.variables, "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK": block}
    pods.variables |= google.variables
    pods.save("prefect_gcp.GcsBucket", block, {"bucket": bucket, "bucket_folder": "default"})
    return variables


def test_a_result_written_by_one_process_is_read_by_another(pods: Pods, google: Emulator) -> None:
    variables = use_bucket(pods, google, "results")

    written = pods.run("returning", variables=variables, number=11, size=SIZE)
    read = pods.run("reading", variables=variables, run_id=written)

    assert pods.state(written)["type"] == "COMPLETED", pods.log(written)
    expected = hashlib.sha256(content(11, SIZE)).hexdigest()
    assert pods.state(read)["message"] == expected, pods.log(read)
    keys = google.keys("results")
    assert keys
    assert all(key.startswith("default/") for key in keys)


def test_another_process_uses_the_cached_result(
    pods: Pods, google: Emulator, tmp_path: Path
) -> None:
    variables, journal = use_bucket(pods, google, "results"), tmp_path / "journal"

    first, second = (
        pods.run("squaring", variables=variables, number=9, journal=str(journal)) for _ in range(2)
    )

    assert journal.read_text().splitlines() == ["squared 9"], pods.log(first)
    assert pods.task_states(second) == ["Cached"]


def test_no_result_is_lost_when_writes_fail_temporarily(
    pods: Pods, google: Emulator, bucket: str
) -> None:
    variables = use_bucket(pods, google, bucket)
    run = pods.create("returning", number=12, size=SIZE)

    with pods.started(run, **variables, RESULT_WRITE_SECONDS="120") as process:
        message = "A result could not be written; the next attempt is in"
        assert wait_until(lambda: message in pods.log(run), 90), pods.log(run)
        google.create(bucket)
        process.wait(120)

    assert pods.state(run)["type"] == "COMPLETED", pods.log(run)
    assert len(google.keys(bucket)) == 1


def test_a_run_fails_with_the_cause_when_its_writes_keep_failing(
    pods: Pods, google: Emulator, bucket: str, tmp_path: Path
) -> None:
    variables, journal = use_bucket(pods, google, bucket), tmp_path / "journal"

    run = pods.run("submitting", variables=variables, number=13, journal=str(journal))

    state = pods.state(run)
    assert state["type"] == "FAILED", pods.log(run)
    assert "ResultNotWritten" in state["message"]
    assert f"GcsBucket {bucket}" in state["message"]
    assert "404" in state["message"]
    assert journal.read_text().splitlines() == ["cubed 13", "cubed 13"], pods.log(run)
