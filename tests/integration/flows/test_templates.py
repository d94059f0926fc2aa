"""The flows that `prefect-platform new` writes keep what they promise when their pod is killed.

Each "pod" is a process that is started with the ID of the run, as in a job pod. All pods share one
folder for results, as job pods share a bucket. The tests change the written files where their users
would: they replace the example with work of their own.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from ruamel.yaml import YAML

from prefect_platform.polling import wait_until
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.new_flow.command import new
from prefect_platform_cli.new_flow.templates import incremental_load
from tests.support.http_service import serving
from tests.support.servers import api_client, clean_environment

WORK = """import os

        import httpx

        answer = httpx.get(f"{os.environ['SERVICE']}/{item}", timeout=600)
        return int(answer.json())"""
PLATFORM = Path("k8s", "environments", "local", "platform.yaml")
WITHIN = 180  # seconds, enough for a busy machine


class Checkout:
    """A folder with new flows, whose deployments are on a real Prefect server."""

    def __init__(self, folder: Path, api: str, warehouse: dict[str, str]) -> None:
        self.folder = folder
        self.api = api
        self.environment = clean_environment(folder, PREFECT_API_URL=api, **warehouse)
        for name in (Path("prefect.yaml"), PLATFORM):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
        shutil.copytree(REPOSITORY / "flows" / "lib", folder / "flows" / "lib")
        (folder / "tests" / "unit" / "flows").mkdir(parents=True)
        self.warehouse = psycopg.connect(
            host=warehouse["WAREHOUSE_HOST"],
            port=warehouse["WAREHOUSE_PORT"],
            dbname=warehouse["WAREHOUSE_DATABASE"],
            user=warehouse["WAREHOUSE_USER"],
            password=warehouse["WAREHOUSE_PASSWORD"],
            autocommit=True,
        )

    def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        with api_client(self.api) as client:
            return client.post(path, json=body).json()

    def change(self, name: str, old: str, new_text: str) -> None:
        path = self.folder / "flows" / f"{name}.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new_text))

    def create(self, name: str, template: str, **parameters: object) -> str:
        """Write and deploy a flow, create a run of it, and return the run's ID."""
        new(name, template, self.folder)
        declared = YAML(typ="safe").load((self.folder / "prefect.yaml").read_text())
        entry = next(each for each in declared["deployments"] if name in each["entrypoint"])
        deployment = self.post(
            "deployments/",
            {
                "name": entry["name"],
                "flow_id": self.post("flows/", {"name": name})["id"],
                "path": str(self.folder),
                "entrypoint": entry["entrypoint"],
                "enforce_parameter_schema": False,
            },
        )
        body = {"parameters": parameters}
        run = self.post(f"deployments/{deployment['id']}/create_flow_run", body)
        return str(run["id"])

    @contextmanager
    def pod(self, run: str, *program: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Start a pod for the run, and kill it at the end."""
        with (self.folder / f"{run}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *([*program, run] if program else ["prefect.engine"])],
                cwd=self.folder,
                env=self.environment | {"PREFECT__FLOW_RUN_ID": run} | variables,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def state(self, run: str) -> dict[str, Any]:
        with api_client(self.api) as client:
            return dict(client.get(f"flow_runs/{run}").json()["state"])

    def set_state(self, run: str, kind: str, name: str) -> None:
        body = {"state": {"type": kind, "name": name}, "force": True}
        self.post(f"flow_runs/{run}/set_state", body)

    def schedule(self, run: str) -> None:
        """Do what the user interface does when a person retries a run."""
        self.set_state(run, "SCHEDULED", "AwaitingRetry")

    def retry(self, run: str, **variables: str) -> dict[str, Any]:
        """Retry a run in a new pod; return its state when the pod has ended."""
        self.schedule(run)
        with self.pod(run, **variables) as process:
            process.wait(WITHIN)
        return self.state(run)

    def ended_tasks(self, run: str) -> int:
        found = self.post("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return len([each for each in found if each["end_time"]])

    def log(self, run: str) -> str:
        return (self.folder / f"{run}.log").read_text()

    def query(self, statement: str) -> list[Any]:
        cursor = self.warehouse.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def a_pod_waits_for_a_lock(self) -> bool:
        return bool(self.query("SELECT 1 FROM pg_locks WHERE NOT granted"))

    def a_pod_is_connected(self) -> bool:
        others = "SELECT 1 FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> "
        return bool(self.query(f"{others} pg_backend_pid()"))


@pytest.fixture(scope="module")
def checkout(
    api: str, warehouse: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path_factory.mktemp("checkout"), api, warehouse)
    with checkout.warehouse:
        yield checkout


def test_fan_out_keeps_to_its_limit_and_repeats_only_items_that_have_no_result(
    checkout: Checkout,
) -> None:
    items = [f"item-{number}" for number in range(1, 9)]
    run = checkout.create("items", "fan-out", items=items)
    limit = YAML(typ="safe").load(checkout.folder / PLATFORM)["concurrency_limits"]["items"]
    checkout.post("v2/concurrency_limits/", {"name": "items", **limit})
    checkout.change("items", "return len(item)", WORK)
    checkout.change("items", "retries=3", "retries=0")
    received: list[str] = []
    working: set[str] = set()
    at_once: list[int] = []
    hangs, broken = Event(), Event()
    broken.set()

    def answer(_method: str, path: str) -> object:
        received.append(path)
        working.add(path)
        at_once.append(len(working))
        if path == "/item-8":
            hangs.wait(WITHIN)
        working.discard(path)
        return "broken" if path == "/item-2" and broken.is_set() else 1

    with serving(answer) as service:
        with checkout.pod(run, SERVICE=service):
            assert wait_until(
                lambda: checkout.ended_tasks(run) == 7 and "/item-8" in working, WITHIN
            ), checkout.log(run)
        hangs.set()
        assert sorted(received) == [f"/{item}" for item in items]
        assert max(at_once) <= limit["limit"]

        received.clear()
        state = checkout.retry(run, SERVICE=service)
        assert state["name"] == "Failed", checkout.log(run)
        assert "1 of 8 items failed: item-2" in state["message"]
        assert sorted(received) == ["/item-2", "/item-8"]

        received.clear()
        broken.clear()
        assert checkout.retry(run, SERVICE=service)["name"] == "Completed", checkout.log(run)
        assert received == ["/item-2"]


def test_an_incremental_load_that_is_killed_in_a_transaction_loads_each_row_once(
    checkout: Checkout,
) -> None:
    rows = [{"id": number} for number in range(1, 8)]

    def answer(_method: str, path: str) -> list[dict[str, int]]:
        asked = parse_qs(urlsplit(path).query)
        after, size = int(asked["after"][0]), int(asked["limit"][0])
        return [row for row in rows if row["id"] > after][:size]

    with serving(answer) as service:
        run = checkout.create("orders", "incremental-load", service=service)
        checkout.change("orders", "PAGE = 1000", "PAGE = 3")
        # The transaction with the fifth row waits for a lock of this test.
        checkout.query(
            """
            CREATE TABLE orders (id bigint PRIMARY KEY, content jsonb NOT NULL);
            CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
            CREATE TRIGGER hang AFTER INSERT ON orders FOR EACH ROW WHEN (NEW.id = 5)
                EXECUTE FUNCTION hang();
            SELECT pg_advisory_lock(1);
            """
        )
        with checkout.pod(run):
            assert wait_until(checkout.a_pod_waits_for_a_lock, WITHIN), checkout.log(run)
        checkout.query("SELECT pg_advisory_unlock(1)")
        assert wait_until(lambda: not checkout.a_pod_is_connected(), WITHIN)
        assert checkout.query("SELECT id FROM orders ORDER BY id") == [(1,), (2,), (3,)]
        assert checkout.query("SELECT * FROM watermarks") == [("orders", 3)]

        assert checkout.retry(run)["name"] == "Completed", checkout.log(run)

    assert checkout.query("SELECT id FROM orders ORDER BY id") == [(row["id"],) for row in rows]
    assert checkout.query("SELECT * FROM watermarks") == [("orders", 7)]


def test_an_incremental_load_does_not_insert_what_another_has_loaded(
    checkout: Checkout, warehouse: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in warehouse.items():
        monkeypatch.setenv(name, value)
    assert incremental_load.read_watermark.fn() == 0

    # The second call repeats the first one; the third one is of a run that started before it.
    for ids in ([1, 2], [1, 2], [1, 2, 3]):
        assert incremental_load.load.fn([{"id": each} for each in ids], 0) == 2

    assert checkout.query("SELECT id FROM incremental_load ORDER BY id") == [(1,), (2,)]


def test_an_external_job_outlives_a_killed_pod_and_is_cancelled_with_its_run(
    checkout: Checkout,
) -> None:
    requests: list[tuple[str, str]] = []
    jobs: dict[str, str] = {}

    def answer(method: str, path: str) -> dict[str, str]:
        requests.append((method, path))
        if method == "PUT":
            jobs.setdefault(path, "running")
        if method == "DELETE":
            jobs[path] = "cancelled"
        return {"state": jobs[path]}

    with serving(answer) as service:
        run = checkout.create("report", "external-job", service=service, job={"size": 1})
        checkout.change("report", "POLL_SECONDS = 10.0", "POLL_SECONDS = 0.2")
        job = f"/jobs/{run}"
        with checkout.pod(run):
            assert wait_until(lambda: ("GET", job) in requests, WITHIN), checkout.log(run)
        assert jobs == {job: "running"}

        requests.clear()
        checkout.schedule(run)
        with checkout.pod(run, "prefect", "flow-run", "execute") as process:
            assert wait_until(lambda: ("GET", job) in requests, WITHIN), checkout.log(run)
            assert jobs == {job: "running"}
            checkout.set_state(run, "CANCELLING", "Cancelling")
            process.wait(WITHIN)

    assert jobs == {job: "cancelled"}
    assert [method for method, _ in requests].count("DELETE") == 1
    assert checkout.state(run)["name"] == "Cancelled", checkout.log(run)


def test_sql_steps_that_have_succeeded_are_not_repeated(checkout: Checkout) -> None:
    run = checkout.create("tables", "sql-steps")
    checkout.change("tables", "sum(square)", "sum(cube)")
    checkout.query("CREATE TABLE squares (number bigint)")

    def built(table: str) -> int:
        """Return the ID of the table, which another one of the same name does not have."""
        [(oid,)] = checkout.query(f"SELECT '{table}'::regclass::oid::bigint")
        return int(oid)

    # The pod is killed in the second step, which waits for a lock of this test.
    with checkout.warehouse.transaction():
        checkout.query("LOCK TABLE squares")
        with checkout.pod(run):
            assert wait_until(checkout.a_pod_waits_for_a_lock, WITHIN), checkout.log(run)
    numbers = built("numbers")

    state = checkout.retry(run)
    assert state["name"] == "Failed", checkout.log(run)
    assert "steps that have not succeeded: totals" in state["message"]
    assert built("numbers") == numbers
    squares = built("squares")

    checkout.change("tables", "sum(cube)", "sum(square)")
    assert checkout.retry(run)["name"] == "Completed", checkout.log(run)
    assert (built("numbers"), built("squares")) == (numbers, squares)
    assert checkout.query("SELECT numbers::int, squares::int FROM totals") == [(5050, 338350)]

    # A step is repeated with all that depend on it if its SQL was changed.
    checkout.change("tables", "generate_series(1, 100)", "generate_series(1, 10)")
    assert checkout.retry(run)["name"] == "Completed", checkout.log(run)
    assert checkout.query("SELECT numbers::int, squares::int FROM totals") == [(55, 385)]
