"""`helm test` reports whether a work pool runs flows, here with a real server and real workers.

The workers start processes instead of Jobs; everything else works as in the pod of `helm test`.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.workers.process import ProcessWorker

from prefect_platform.api_failures import MISSING_POOL
from tests.support.servers import api_client, clean_environment, free_ports, prefect_server

_FAILING = """
from prefect import flow

@flow(name="prefect-platform-test", log_prints=True)
def platform_test():
    print("about to write")
    raise OSError("the disk is full")
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Prefect server and yield the address of its API."""
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def create_pool(api: str, name: str, **env: str) -> None:
    """Create a work pool that runs flows in processes with the environment variables `env`."""
    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["env"]["default"] = env
    created = {"name": name, "type": "process", "base_job_template": template}
    with api_client(api) as client:
        client.post("work_pools/", json=created)


@contextmanager
def worker(api: str, pool: str, home: Path, *options: str) -> Iterator[None]:
    """Run a worker for `pool` inside the block."""
    process = subprocess.Popen(
        [*(sys.executable, "-m", "prefect", "worker", "start", "--pool", pool), *options],
        env=clean_environment(home, PREFECT_API_URL=api, PREFECT_WORKER_QUERY_SECONDS="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def helm_test(
    api: str, pool: str, home: Path, *options: str, timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run the program of the pod of `helm test`."""
    where = ("--worker=prefect-workers/prefect-worker-default", "--jobs=flows-default")
    return subprocess.run(
        [
            *(sys.executable, "-m", "prefect_platform.worker.helm_test"),
            *(*where, f"--timeout={timeout}", *options, pool),
        ],
        env=clean_environment(home, PREFECT_API_URL=api, PREFECT_SERVER_EPHEMERAL_ENABLED="false"),
        capture_output=True,
        text=True,
        check=False,
    )


def runs_of(api: str, pool: str) -> list[dict[str, Any]]:
    """Return the runs of a pool from the API."""
    with api_client(api) as client:
        found = client.post("flow_runs/filter", json={"work_pools": {"name": {"any_": [pool]}}})
    runs: list[dict[str, Any]] = found.json()
    return runs


def test_the_test_flow_runs_in_the_given_queue_and_can_be_repeated(
    api: str, tmp_path: Path
) -> None:
    create_pool(api, "healthy")
    with worker(api, "healthy", tmp_path, "--work-queue", "urgent"):
        ended = [helm_test(api, "healthy", tmp_path, "--queue=urgent") for _ in range(2)]

    assert [each.returncode for each in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    assert "completed in the work pool healthy" in ended[0].stderr
    runs = runs_of(api, "healthy")
    assert [run["state_name"] for run in runs] == ["Completed", "Completed"]
    assert len({run["deployment_id"] for run in runs}) == 1
    assert {run["work_queue_name"] for run in runs} == {"urgent"}


@pytest.mark.parametrize(
    ("pool", "module", "verdict", "reason"),
    [
        ("failing", _FAILING, "ended in the state Failed: ", "the disk is full"),
        (
            "other-image",
            None,
            "ended in the state Crashed: ",
            "No module named 'prefect_platform",
        ),
    ],
)
def test_a_failed_or_crashed_run_is_reported_with_its_logs_and_the_next_step(
    api: str, tmp_path: Path, *, pool: str, module: str | None, verdict: str, reason: str
) -> None:
    root = tmp_path / "packages"
    package = root / "prefect_platform" / "worker"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    if module:
        (package / "probe_flow.py").write_text(module)
    create_pool(api, pool, PYTHONPATH=str(root))
    with worker(api, pool, tmp_path):
        ended = helm_test(api, pool, tmp_path)

    assert ended.returncode == 1
    logs, _, error = ended.stderr.partition("\nThe flow run ")
    assert reason in logs
    assert f"in the work pool {pool} {verdict}" in error
    assert "kubectl --namespace prefect-workers logs deployment/prefect-worker-default" in error
    assert "kubectl --namespace flows-default get events,jobs,pods" in error
    assert "Traceback" not in error


def test_a_run_that_no_worker_picks_up_is_cancelled_after_the_timeout(
    api: str, tmp_path: Path
) -> None:
    create_pool(api, "unserved")
    ended = helm_test(api, "unserved", tmp_path, timeout=2)

    assert ended.returncode == 1
    assert "Gave up waiting for the flow run" in ended.stderr
    assert "it is Scheduled" in ended.stderr
    assert "Next: kubectl --namespace prefect-workers logs" in ended.stderr
    assert [run["state_name"] for run in runs_of(api, "unserved")] == ["Cancelled"]


def test_a_paused_or_missing_pool_is_reported_before_a_run_is_created(
    api: str, tmp_path: Path
) -> None:
    create_pool(api, "paused")
    with api_client(api) as client:
        client.patch("work_pools/paused", json={"is_paused": True})
    paused, missing = (helm_test(api, pool, tmp_path) for pool in ("paused", "missing"))

    assert paused.returncode == missing.returncode == 1
    assert paused.stderr == (
        "The work pool paused is paused, so none of its runs start\n"
        "Next: prefect work-pool resume paused\n"
    )
    assert missing.stderr == (
        f"The API does not know the work pool missing\nNext: {MISSING_POOL}\n"
    )
    assert runs_of(api, "paused") == []


def test_an_unreachable_api_is_reported_in_one_sentence(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    ended = helm_test(f"http://127.0.0.1:{port}/api", "default", tmp_path)

    assert ended.returncode == 1
    assert f"http://127.0.0.1:{port}/api does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr
