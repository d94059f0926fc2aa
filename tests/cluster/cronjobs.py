"""The charts' CronJobs, run when a test says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from prefect_platform.kubectl import Kubectl
from tests.cluster.deployed import eventually


@contextmanager
def suspended(kubectl: Kubectl, namespace: str, cronjob: str) -> Iterator[None]:
    """Keep a CronJob from doing by itself what the test waits for."""
    patch = (f"--namespace={namespace}", "patch", "cronjob", cronjob, "--patch")
    active = (f"--namespace={namespace}", "get", "cronjob", cronjob, "-o=jsonpath={.status.active}")
    kubectl(*patch, '{"spec": {"suspend": true}}')
    try:
        eventually(f"no Job of {cronjob} is at work", lambda: not kubectl(*active))
        yield
    finally:
        # Nobody's field again: an upgrade of the release may set it.
        kubectl(*patch, '{"spec": {"suspend": null}}')


def run_now(kubectl: Kubectl, namespace: str, cronjob: str) -> str:
    """Run a CronJob's Job to its completion and return its log."""
    name = f"{cronjob}-{uuid4().hex[:6]}"
    here = f"--namespace={namespace}"
    kubectl(here, "create", "job", name, f"--from=cronjob/{cronjob}")
    try:
        kubectl(here, "wait", f"job/{name}", "--for=condition=Complete", "--timeout=300s")
        return kubectl(here, "logs", f"job/{name}")
    finally:
        kubectl(here, "delete", "job", name)
