"""The daily ETL in the cluster: correct rows, isolated job pods, and a cache across pods."""

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.objects import FlowRun

from prefect_platform_cli.deploy.connection import connected
from tests.cluster.deployed import DEPLOYMENT, Platform, final, run_etl, start_etl, task_states
from tests.unit.flows.delays_by_pandas import by_pandas

_DAYS = ("2013-01-01", "2013-02-08", "2013-07-10")
_DAY_WITHOUT_DATA = "2014-01-01"
_COLUMNS = "dimension, member, flights, cancelled, mean_departure_delay, mean_arrival_delay"


def warehouse_rows(platform: Platform, day: str) -> list[dict[str, str]]:
    """Return the rows of a day as psql prints them in the pod of the warehouse."""
    query = f"COPY (SELECT {_COLUMNS} FROM daily_delays WHERE day = '{day}') TO STDOUT CSV HEADER"  # noqa: S608
    psql = ["psql", "--username=warehouse", "--dbname=warehouse", "--command", query]
    printed = platform.kubectl("--namespace=data", "exec", "statefulset/warehouse", "--", *psql)
    return list(csv.DictReader(io.StringIO(printed)))


def job_pod(platform: Platform, run: FlowRun) -> dict[str, Any]:
    """Return the pod in which `run` ran."""
    selector = f"--selector=prefect.io/flow-run-id={run.id}"
    listed = json.loads(
        platform.kubectl("--namespace=flows-default", "get", "pods", selector, "--output=json")
    )
    (pod,) = listed["items"]
    return dict(pod)


@contextmanager
def concurrent_runs(prefect: SyncPrefectClient) -> Iterator[None]:
    """Allow concurrent runs of the deployment, because each run of this module has its own day."""
    limit = prefect.read_deployment_by_name(DEPLOYMENT).global_concurrency_limit
    assert limit is not None

    def change(to: int) -> None:
        prefect.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(limit=to))

    change(len(_DAYS) + 1)
    try:
        yield
    finally:
        change(limit.limit)


@pytest.fixture(scope="module")
def runs(platform: Platform) -> dict[str, FlowRun]:
    """Start the runs of all days at once, and return them by day when they have ended."""
    with connected(platform.kubectl) as prefect, concurrent_runs(prefect):
        started = {day: start_etl(prefect, day) for day in (*_DAYS, _DAY_WITHOUT_DATA)}
        return {day: final(prefect, run) for day, run in started.items()}


@pytest.mark.parametrize("day", _DAYS)
def test_the_warehouse_has_exactly_the_rows_that_pandas_computes(
    platform: Platform, runs: dict[str, FlowRun], day: str
) -> None:
    run = runs[day]

    assert run.state is not None
    assert run.state.is_completed(), run.state.message
    loaded = {
        (row["dimension"], row["member"]): (
            int(row["flights"]),
            int(row["cancelled"]),
            float(row["mean_departure_delay"] or "nan"),
            float(row["mean_arrival_delay"] or "nan"),
        )
        for row in warehouse_rows(platform, day)
    }
    expected = {
        (str(row["dimension"]), str(row["member"])): (
            row["flights"],
            row["cancelled"],
            row["mean_departure_delay"],
            row["mean_arrival_delay"],
        )
        for row in by_pandas(dt.date.fromisoformat(day)).to_dict("records")
    }
    assert loaded.keys() == expected.keys()
    for key, values in expected.items():
        assert loaded[key] == pytest.approx(values, nan_ok=True), key


def test_a_second_run_of_a_day_in_another_pod_uses_the_cached_extract(
    platform: Platform, prefect: SyncPrefectClient, runs: dict[str, FlowRun]
) -> None:
    first, rows = runs["2013-02-08"], warehouse_rows(platform, "2013-02-08")
    second = run_etl(prefect, "2013-02-08")

    assert task_states(prefect, first)["extract"] == "Completed"
    assert task_states(prefect, second) == {
        "extract": "Cached",
        "transform": "Completed",
        "load": "Completed",
    }
    names = {job_pod(platform, run)["metadata"]["name"] for run in (first, second)}
    assert len(names) == 2
    assert warehouse_rows(platform, "2013-02-08") == rows


def test_a_run_is_one_job_pod_without_privileges_or_secrets_in_its_spec(
    platform: Platform, runs: dict[str, FlowRun]
) -> None:
    run = runs["2013-07-10"]
    pod = job_pod(platform, run)
    spec = pod["spec"]
    (container,) = spec["containers"]

    assert pod["metadata"]["ownerReferences"][0]["kind"] == "Job"
    assert spec["automountServiceAccountToken"] is False
    (token,) = (
        source["serviceAccountToken"]
        for volume in spec["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    )
    assert token["audience"] == f"prefect-server.prefect/flow-runs/{run.id}"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]) >= {"requests", "limits"}
    assert "PREFECT_API_AUTH_STRING" not in {item["name"] for item in container["env"]}
    by_reference = {item["name"] for item in container["env"] if "valueFrom" in item}
    assert "WAREHOUSE_PASSWORD" in by_reference
    secrets = json.loads(
        platform.kubectl("--namespace=flows-default", "get", "secrets", "--output=json")
    )
    assert "prefect-auth" not in {item["metadata"]["name"] for item in secrets["items"]}
    template = "{{range .items}}{{range .data}}{{base64decode .}}\n{{end}}{{end}}"
    values = platform.kubectl(
        "--namespace=flows-default", "get", "secrets", f"--output=go-template={template}"
    ).split()
    assert len(values) >= len(secrets["items"]) > 0
    assert not [value for value in values if value in json.dumps(pod)]


def test_a_day_without_data_fails_with_an_explanation(
    runs: dict[str, FlowRun],
) -> None:
    run = runs[_DAY_WITHOUT_DATA]

    assert run.state is not None
    assert run.state.name == "Failed"
    assert run.state.message is not None
    assert "2014-01-01" in run.state.message
    assert "2013-12-31" in run.state.message
