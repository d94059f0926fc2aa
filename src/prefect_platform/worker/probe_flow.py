"""The flow of `helm test`: small, and part of every image that this repository has for job pods."""

import socket

from prefect import flow, task


@task
def where() -> str:
    """Return the name of the pod in which the task runs."""
    return socket.gethostname()


@flow(name="prefect-platform-test", log_prints=True)
def platform_test() -> None:
    """Run one task and say where, so that a task run and a log reach the API too."""
    print(f"A flow and its task run in {where()}")  # noqa: T201  # a log line of the run
