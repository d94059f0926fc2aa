"""The deployment of prefect.yaml on a real Prefect server, run as the worker's job pods run it.

Each "pod" is a separate process with an empty PREFECT_HOME, so only the object store carries
results from one pod to the next.
"""

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import boto3
import psycopg
import pytest
from mypy_boto3_s3 import S3Client
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from lib.delays import Delays, summarise
from lib.flight_days import PACKAGE_SOURCE, read_day
from lib.warehouse import to_parquet
from tests.integration.flows.conftest import POOL
from tests.support import records
from tests.support.servers import REPOSITORY, api_client, clean_environment

DAY = dt.date(2013, 2, 8)
DAILY = {"deployments": {"name": {"any_": ["daily"]}}}


class Platform:
    """A Prefect server with the block and the deployment that the real platform has."""

    def __init__(self, api: str, directory: Path, variables: dict[str, str]) -> None:
        self.api = api
        self.directory = directory
        self.variables = variables | {"PREFECT_API_URL": api}
        # The image has flows/ and prefect.yaml in /opt/prefect.
        shutil.copytree(REPOSITORY / "flows", directory / "flows")
        text = (REPOSITORY / "prefect.yaml").read_text()
        (directory / "prefect.yaml").write_text(text.replace("/opt/prefect", str(directory)))

    def python(self, *arguments: str, home: str, **variables: str) -> None:
        subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=clean_environment(self.directory / home, **(self.variables | variables)),
            capture_output=True,
            text=True,
            check=True,
        )

    def deploy(self) -> list[dict[str, Any]]:
        self.python("-m", "prefect", "--no-prompt", "deploy", "--all", home="deploy")
        deployments: list[dict[str, Any]] = self.post("deployments/filter", DAILY)
        return deployments

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        with api_client(self.api) as client:
            return client.post(path, json=body or {}).json()

    def run(
        self,
        pod: str,
        date: str | None = None,
        scheduled: str = "2025-11-23T11:00:00Z",
        **variables: str,
    ) -> dict[str, Any]:
        """Run the deployment in a pod named `pod`; return the flow run as the server stores it."""
        (deployment,) = self.post("deployments/filter", DAILY)
        created = self.post(
            f"deployments/{deployment['id']}/create_flow_run",
            {
                "parameters": {"date": date},
                "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": scheduled}},
            },
        )
        execute = ("-m", "prefect_platform.flow_run", created["id"])
        key = {
            "AWS_ACCESS_KEY_ID": POOL["access-key-id"],
            "AWS_SECRET_ACCESS_KEY": POOL["secret-access-key"],
        }
        self.python(*execute, home=pod, **(key | variables))
        flow_run: dict[str, Any]
        (flow_run,) = self.post(
            "flow_runs/filter", {"flow_runs": {"id": {"any_": [created["id"]]}}}
        )
        return flow_run

    def task_states(self, flow_run: dict[str, Any]) -> dict[str, str]:
        runs = self.post("task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run["id"]]}}})
        return {run["name"].rsplit("-", 1)[0]: run["state_name"] for run in runs}

    def log(self, flow_run: dict[str, Any]) -> str:
        lines = self.post("logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run["id"]]}}})
        return "\n".join(line["message"] for line in lines)


@pytest.fixture(scope="module")
def platform(
    api: str,
    object_store: dict[str, str],
    warehouse: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Platform:
    variables = {
        "RAW_BUCKET": "raw",
        "ARTIFACTS_BUCKET": "artifacts",
        "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK": "s3-bucket/results-default",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    }
    platform = Platform(api, tmp_path_factory.mktemp("image"), object_store | warehouse | variables)
    platform.python("flows/publish_flights.py", home="publish")
    # The block holds no keys: each pod has its own.
    block = "S3Bucket(bucket_name='results', bucket_folder='default').save('results-default')"
    platform.python("-c", f"from prefect_aws import S3Bucket; {block}", home="configure")
    platform.post("work_pools/", {"name": "default", "type": "process"})
    platform.deploy()
    return platform


@pytest.fixture(scope="module")
def first(platform: Platform) -> dict[str, Any]:
    return platform.run("first", date=str(DAY))


@pytest.fixture(scope="module")
def second(platform: Platform, first: dict[str, Any]) -> dict[str, Any]:
    assert first["state_name"] == "Completed"
    return platform.run("second", date=str(DAY))


def rows_in(platform: Platform, day: dt.date) -> list[Any]:
    with psycopg.connect(
        host=platform.variables["WAREHOUSE_HOST"],
        port=platform.variables["WAREHOUSE_PORT"],
        dbname=platform.variables["WAREHOUSE_DATABASE"],
        user=platform.variables["WAREHOUSE_USER"],
        password=platform.variables["WAREHOUSE_PASSWORD"],
    ) as connection:
        rows = connection.execute("SELECT * FROM daily_delays WHERE day = %s", [day]).fetchall()
    return sorted(rows)


def administrator(platform: Platform) -> S3Client:
    s3: S3Client = boto3.Session().client(
        "s3",
        endpoint_url=platform.variables["AWS_ENDPOINT_URL_S3"],
        region_name=platform.variables["AWS_REGION"],
        aws_access_key_id=platform.variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=platform.variables["AWS_SECRET_ACCESS_KEY"],
    )
    return s3


def parquet_of(platform: Platform, day: dt.date) -> bytes:
    key = f"etl-daily/{day}.parquet"
    s3 = administrator(platform)
    content: bytes = s3.get_object(Bucket="artifacts", Key=key)["Body"].read()
    return content


def expected_rows(day: dt.date) -> list[Delays]:
    return summarise(day, read_day(PACKAGE_SOURCE, day))


def test_deploying_again_leaves_one_deployment_with_one_schedule(platform: Platform) -> None:
    (before,) = platform.deploy()
    (after,) = platform.deploy()
    assert after["id"] == before["id"]
    assert after["name"] == "daily"
    (schedule,) = after["schedules"]
    assert schedule["id"] == before["schedules"][0]["id"]
    assert schedule["active"]
    assert after["global_concurrency_limit"]["limit"] == 1
    assert after["concurrency_options"]["collision_strategy"] == "ENQUEUE"


def test_the_schedule_creates_runs_for_six_in_the_morning_in_new_york(platform: Platform) -> None:
    waiting = {**DAILY, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    until_scheduled = Retrying(
        stop=stop_after_delay(60),
        wait=wait_fixed(0.5),
        retry=retry_if_result(lambda runs: not runs),
    )
    runs = until_scheduled(platform.post, "flow_runs/filter", waiting)
    starts = {dt.datetime.fromisoformat(run["expected_start_time"]) for run in runs}
    new_york = {start.astimezone(ZoneInfo("America/New_York")).time() for start in starts}
    assert new_york == {dt.time(6, 0)}


def test_a_run_stores_the_rows_and_the_parquet_object_of_its_day(
    platform: Platform, first: dict[str, Any]
) -> None:
    assert platform.task_states(first) == {
        "extract": "Completed",
        "transform": "Completed",
        "load": "Completed",
    }
    assert rows_in(platform, DAY) == expected_rows(DAY)
    assert parquet_of(platform, DAY) == to_parquet(expected_rows(DAY))


def test_a_second_pod_uses_the_cached_extract_and_loads_the_same_rows(
    platform: Platform, second: dict[str, Any]
) -> None:
    assert platform.task_states(second) == {
        "extract": "Cached",
        "transform": "Completed",
        "load": "Completed",
    }
    assert rows_in(platform, DAY) == expected_rows(DAY)
    assert parquet_of(platform, DAY) == to_parquet(expected_rows(DAY))


def test_a_pod_extracts_again_after_the_cache_has_expired(
    platform: Platform, second: dict[str, Any]
) -> None:
    assert second["state_name"] == "Completed"
    records.age(administrator(platform), dt.timedelta(hours=1))
    third = platform.run("third", date=str(DAY))
    assert platform.task_states(third) == {
        "extract": "Completed",
        "transform": "Completed",
        "load": "Completed",
    }


def test_the_scheduled_start_determines_the_day_when_no_date_is_given(platform: Platform) -> None:
    flow_run = platform.run("leap-day", scheduled="2024-02-29T11:00:00Z")
    assert flow_run["state_name"] == "Completed"
    day = dt.date(2013, 2, 28)
    assert rows_in(platform, day) == expected_rows(day)


def test_an_invalid_date_fails_the_run_with_a_message_and_no_traceback(
    platform: Platform,
) -> None:
    flow_run = platform.run("wrong-date", date="2014-01-01")
    assert flow_run["state_name"] == "Failed"
    assert flow_run["state"]["message"].startswith("The date 2014-01-01 is outside the data")
    assert "--param date=2013-02-08" in flow_run["state"]["message"]
    assert platform.task_states(flow_run) == {}
    assert "Traceback" not in platform.log(flow_run)


def test_a_permanent_error_fails_the_run_with_a_message_and_without_retries(
    platform: Platform,
) -> None:
    flow_run = platform.run("no-bucket", date=str(DAY), RAW_BUCKET="nowhere")
    assert flow_run["state_name"] == "Failed"
    assert flow_run["state"]["message"].startswith("Object s3://nowhere/flights/2013-02-08.csv")
    assert "is not accessible with this access key" in flow_run["state"]["message"]
    # If the task were retried, its state would be AwaitingRetry, and the log would say so.
    assert platform.task_states(flow_run) == {"extract": "Failed"}
    assert "Retry 1/3" not in platform.log(flow_run)
    assert "Traceback" not in platform.log(flow_run)


def test_the_log_of_a_run_names_the_bucket_and_the_warehouse(
    platform: Platform, first: dict[str, Any]
) -> None:
    log = platform.log(first)
    assert "2013-02-08: from s3://raw to PostgreSQL 127.0.0.1:" in log
    assert "930 flights, 472 cancelled" in log
