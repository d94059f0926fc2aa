"""The charts' CronJobs, run when a test says so."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from prefect_platform.kubectl import Kubectl
from tests.cluster.deployed import eventually


@contextmanager
def suspended(kubectl: Kubectl, namespace: str, cronjob: str) -> Iterator[None]:
    """Keep a CronJob from doing by itself what the test waits for.

    The field is applied, not patched: when it is given up, it is nobody's and no later upgrade of
    the release is in conflict with it.
    """

    def apply(spec: dict[str, bool]) -> None:
        metadata = {"name": cronjob, "namespace": namespace}
        kubectl(
            *("apply", "--server-side", "--field-manager=suspended", "--filename=-"),
            stdin=json.dumps(
                {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec}
            ),
        )

    active = (f"--namespace={namespace}", "get", "cronjob", cronjob, "-o=jsonpath={.status.active}")
    apply({"suspend": True})
    try:
        eventually(f"no Job of {cronjob} is at work", lambda: not kubectl(*active))
        yield
    finally:
        apply({})


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


def summary_of_run(kubectl: Kubectl, namespace: str, cronjob: str) -> dict[str, Any]:
    """Run a CronJob as `run_now` does and return what the last line of its log says, as JSON."""
    summary: dict[str, Any] = json.loads(run_now(kubectl, namespace, cronjob).splitlines()[-1])
    return summary
