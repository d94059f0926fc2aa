"""The worker's program reports parts that have stopped, and loses no run when it shuts down."""

import asyncio
import signal
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from prefect_platform.polling import wait_until, wait_while
from prefect_platform.worker.kubernetes_worker import health_api
from prefect_platform.worker.observer import Watches
from tests.integration.worker.worker_program import (
    IMPATIENT,
    POOL,
    WATCHED,
    WITHIN,
    Worker,
    prefect_server,
    scheduled_run,
    starting_worker,
    watching_worker,
)
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi, fake_kubernetes


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesApi]:
    with fake_kubernetes(tmp_path / "kubeconfig") as api:
        yield api


def await_stopped(worker: Worker, part: str) -> None:
    """Wait until the health endpoint answers 503 and names `part` among the stopped parts."""

    def not_reported() -> str:
        answer = worker.health()
        if answer is None or answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return worker.log.read_text()
        return "" if part in " ".join(answer.json()["stopped"]) else answer.text

    assert not wait_while(not_reported, WITHIN)


def assert_healthy(worker: Worker) -> None:
    answer = worker.health()
    assert answer is not None
    assert (answer.status_code, answer.json()) == (httpx.codes.OK, {"stopped": [], "waiting": []})


@pytest.mark.parametrize("plural", WATCHED)
def test_a_forbidden_watch_is_reported_with_its_resource(
    api_url: str, kubernetes: KubernetesApi, tmp_path: Path, plural: str
) -> None:
    impatient = ("-c", IMPATIENT.format(more=""))
    with watching_worker(api_url, kubernetes, tmp_path / "w", "w", *impatient) as worker:
        assert_healthy(worker)

        kubernetes.refuse(plural, status=HTTPStatus.FORBIDDEN)

        await_stopped(worker, f"the observer's watch of {plural}.")
        await_stopped(worker, "the observer's watch of")
        logged = [line for line in worker.log.read_text().splitlines() if "Not healthy" in line]
        assert len(logged) == len(set(logged)) > 0


def test_a_prefect_signal_that_escapes_a_handler_is_reported(
    api_url: str, kubernetes: KubernetesApi, tmp_path: Path
) -> None:
    escaping = """
@kopf.on.event("v1", "pods")
def escape(**_):
    from prefect.exceptions import Abort
    raise Abort("the run is terminal already")
"""
    program = ("-c", IMPATIENT.format(more=escaping))
    with watching_worker(api_url, kubernetes, tmp_path / "w", "w", *program) as worker:
        assert_healthy(worker)

        kubernetes.put("pods", {"metadata": {"name": "any"}, "status": {"phase": "Pending"}})

        await_stopped(worker, "the observer's watch of pods.")


def test_a_connection_that_breaks_and_recovers_is_not_reported(
    api_url: str, kubernetes: KubernetesApi, tmp_path: Path
) -> None:
    impatient = ("-c", IMPATIENT.format(more=""))
    with watching_worker(api_url, kubernetes, tmp_path / "w", "w", *impatient) as worker:
        before = len(kubernetes.requests)

        kubernetes.refuse(*WATCHED, status=None)
        # For each watch, more requests than kopf's attempts for a single one.
        attempts = before + 4 * len(WATCHED)
        assert wait_until(lambda: len(kubernetes.requests) >= attempts, WITHIN)
        assert_healthy(worker)
        kubernetes.accept()

        assert wait_until(lambda: all(kubernetes.watches(each) for each in WATCHED), WITHIN)
        assert_healthy(worker)
        assert "Not healthy" not in worker.log.read_text()


@pytest.mark.parametrize(("start_seconds", "stopped"), [(300, 0), (0, len(WATCHED))])
def test_an_observer_that_does_not_start_is_reported_only_after_the_start_timeout(
    api_url: str, kubernetes: KubernetesApi, tmp_path: Path, start_seconds: int, stopped: int
) -> None:
    more = f"from prefect_platform.worker import observer as o; o._START_SECONDS = {start_seconds}"
    kubernetes.discovery.clear()
    program = ("-c", IMPATIENT.format(more=more))
    with starting_worker(api_url, kubernetes, tmp_path / "w", "w", *program) as worker:
        assert wait_until(lambda: kubernetes.requests, WITHIN), worker.log.read_text()

        answer = worker.health()
        assert answer is not None
        assert len(answer.json()["stopped"]) == stopped


def test_a_worker_that_does_not_poll_is_reported() -> None:
    async def ask() -> httpx.Response:
        app = httpx.ASGITransport(app=health_api(lambda: False, Watches(), list))
        async with httpx.AsyncClient(transport=app, base_url="http://pod") as client:
            return await client.get("/health")

    answer = asyncio.run(ask())

    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.json()["stopped"] == ["the worker does not poll its work pool"]


def test_a_worker_that_receives_sigterm_finishes_its_submissions(
    api_url: str, kubernetes: KubernetesApi, tmp_path: Path
) -> None:
    client = SyncPrefectClient(api_url)
    with watching_worker(api_url, kubernetes, tmp_path / "w", "w") as worker:
        kubernetes.failing_creations = [HTTPStatus.INTERNAL_SERVER_ERROR]
        run = scheduled_run(client)

        def creation_requested() -> bool:
            return any(request.startswith("POST") for request in kubernetes.requests)

        assert wait_until(creation_requested, WITHIN), worker.log.read_text()
        worker.process.send_signal(signal.SIGTERM)

        assert worker.process.wait(WITHIN) == 0
    (job,) = kubernetes.objects["jobs"].values()
    assert job["metadata"]["labels"]["prefect.io/flow-run-id"] == str(run)
    pid = client.read_flow_run(run).infrastructure_pid
    assert pid == f"{NAMESPACE}:{job['metadata']['name']}"
    # No worker picks it up a second time.
    scheduled = client.request(
        "POST", "/work_pools/{name}/get_scheduled_flow_runs", path_params={"name": POOL}, json={}
    )
    assert scheduled.json() == []
