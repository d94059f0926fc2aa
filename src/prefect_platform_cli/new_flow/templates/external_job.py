"""Start a job of another system, wait until it ends, and cancel it together with the run.

The job gets the id of the flow run as its own. To submit it again therefore finds it again: after a
lost answer, after a retry, and after the pod of the run was killed.
"""

import time
from typing import Any

import httpx
from prefect import Flow, State, flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.tasks import exponential_backoff

from lib.local_run import temporary_server

POLL_SECONDS = 10.0


def job_url(service: str, run: object) -> str:
    """Return the address of the job that belongs to the flow run with the id `run`."""
    return f"{service}/jobs/{run}"


@task(retries=3, retry_delay_seconds=exponential_backoff(10), cache_policy=NO_CACHE)
def submit(url: str, job: dict[str, Any]) -> None:
    """Start the job at `url`, unless it has been started: adapt it to your service."""
    httpx.put(url, json=job, timeout=30).raise_for_status()


@task(retries=3, retry_delay_seconds=exponential_backoff(10), cache_policy=NO_CACHE)
def wait(url: str, deadline: float) -> dict[str, Any]:
    """Return the job at `url` when it has ended.

    Raises TimeoutError if it has not ended at `deadline`, in seconds since the epoch. Retries of
    the task do not extend it. The heartbeats of the run continue, because Prefect sends them from
    a thread.
    """
    while time.time() < deadline:
        response = httpx.get(url, timeout=30)
        response.raise_for_status()
        job: dict[str, Any] = response.json()
        if job["state"] != "running":
            return job
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"the job {url} has not ended in time")


def cancel(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - a hook's signature
    """Cancel the job of a run that was cancelled or has failed.

    A run that crashed keeps its job, so that a retry finds it.
    """
    url = job_url(flow_run.parameters["service"], flow_run.id)
    httpx.delete(url, timeout=30).raise_for_status()


@flow(
    name="external-job",
    log_prints=True,
    on_cancellation=[cancel],
    on_failure=[cancel],
)
def external_job(
    service: str,
    job: dict[str, Any],
    timeout: float = 3600,
) -> dict[str, Any]:
    """Run `job` and return what the service says about it at its end.

    Args:
        service: The address of the service, such as https://jobs.example.org.
        job: What the service needs to know about the job.
        timeout: The seconds that the job may take.
    """
    url = job_url(service, runtime.flow_run.id)
    submit(url, job)
    print(f"the job is {url}")
    ended = wait(url, time.time() + timeout)
    if ended["state"] != "succeeded":
        raise RuntimeError(f"the job {url} is {ended['state']}")
    return ended


if __name__ == "__main__":
    with temporary_server():
        external_job("http://127.0.0.1:8000", {})
