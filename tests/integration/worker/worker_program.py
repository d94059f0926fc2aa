"""Run the program of the worker's pod with a real Prefect server and a fake Kubernetes."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect_kubernetes.worker import KubernetesWorker  # type: ignore[import-untyped]

from prefect_platform.polling import wait_until
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support import servers
from tests.support.kubernetes_api import NAMESPACE, KubernetesApi

POOL = "default"
# Stands for the chart's template, and creates Jobs in the namespace that the fake API has.
TEMPLATE = KubernetesWorker.get_default_base_job_template()
MAX_STARTS = 3
WATCHED = ("events", "jobs", "pods")
# Seconds. Kubernetes and Prefect answer immediately here, but the machine may be busy.
WITHIN = 60.0

# The main program of the pod, except that kopf gives up within a second instead of 54.
IMPATIENT = """
import kopf
from prefect_platform import container
from prefect_platform.worker import kubernetes_worker

@kopf.on.startup()
def give_up_soon(settings, **_):
    settings.networking.error_backoffs = (0.2, 0.2)

{more}
container.run(kubernetes_worker.main)
"""


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """Start a Prefect server with the worker's pool, and yield the address of its API."""
    with servers.prefect_server(home) as api_url:
        pool = {"name": POOL, "type": "kubernetes", "base_job_template": TEMPLATE}
        with servers.api_client(api_url) as client:
            client.post("work_pools/", json=pool)
        yield api_url


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def health(self) -> httpx.Response | None:
        """Return the answer of the health endpoint, or None while it does not listen yet."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health")
        except httpx.ConnectError:
            return None


@contextmanager
def starting_worker(
    api_url: str,
    kubernetes: KubernetesApi | Kubectl,
    directory: Path,
    name: str,
    *program: str,
    query_seconds: int = 1,
) -> Iterator[Worker]:
    """Start the worker `name`; `program` replaces the arguments with which Python runs it."""
    (port,) = servers.free_ports(1)
    directory.mkdir()
    template = directory / "base-job-template.json"
    template.write_text(json.dumps(TEMPLATE))
    program = program or ("-m", "prefect_platform.worker.kubernetes_worker")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                *program,
                f"--name={name}",
                f"--pool={POOL}",
                f"--max-starts={MAX_STARTS}",
                f"--base-job-template={template}",
            ],
            env=servers.clean_environment(
                directory,
                KUBECONFIG=str(kubernetes.kubeconfig),
                PREFECT_API_URL=api_url,
                PREFECT_WORKER_QUERY_SECONDS=str(query_seconds),
                PREFECT_WORKER_WEBSERVER_PORT=str(port),
                PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES=NAMESPACE,
            ),
            stdout=log,
            stderr=log,
        )
    try:
        yield Worker(process, port, directory / "log")
    finally:
        process.kill()  # a worker whose observer is still starting would take minutes to stop
        process.wait()


@contextmanager
def watching_worker(
    api_url: str, kubernetes: KubernetesApi, directory: Path, name: str, *program: str
) -> Iterator[Worker]:
    """Start the worker `name`, and yield it once it watches all resources in WATCHED."""
    before = {plural: kubernetes.watches(plural) for plural in WATCHED}

    def watches_all() -> bool:
        return all(kubernetes.watches(plural) > open_ for plural, open_ in before.items())

    with starting_worker(api_url, kubernetes, directory, name, *program) as worker:
        assert wait_until(watches_all, WITHIN), worker.log.read_text()
        yield worker


def scheduled_run(client: SyncPrefectClient, **job_variables: object) -> uuid.UUID:
    """Create a run that the worker will pick up, and return its id."""
    flow = client.create_flow_from_name("submitted")
    body = {
        "name": "test",
        "flow_id": str(flow),
        "work_pool_name": POOL,
        "entrypoint": "flow.py:flow",
    }
    deployment = client.request("POST", "/deployments/", json=body).json()["id"]
    return client.create_flow_run_from_deployment(deployment, job_variables=job_variables).id
