"""The CronJobs of the charts, which the tests run on demand."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from kubernetes import client as kubernetes_client

from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import eventually

# An argument of the reaper: 5 seconds instead of a minute. The reaper checks a run without a Job
# again after this period, and ignores younger Jobs without a run.
SHORT_GRACE_PERIOD = "--grace=5"


def schedules(kubectl: Kubectl) -> dict[str, tuple[str, bool]]:
    """Return the schedule of each CronJob by its name, and whether it is suspended."""
    return {
        each["metadata"]["name"]: (each["spec"]["schedule"], each["spec"]["suspend"])
        for each in _all(kubectl)
    }


def suspend(kubectl: Kubectl) -> None:
    """Suspend every CronJob, so that none does by itself what a test waits for.

    The field is applied with a separate field manager instead of a patch. No chart sets the field,
    so that a later upgrade of a release neither conflicts with it nor reverts it.
    """
    suspended = [
        {
            **{key: each[key] for key in ("apiVersion", "kind")},
            "metadata": {key: each["metadata"][key] for key in ("name", "namespace")},
            "spec": {"suspend": True},
        }
        for each in _all(kubectl)
    ]
    kubectl(
        *("apply", "--server-side", "--field-manager=suspended", "--filename=-"),
        # Not as a List, because kubectl requires all fields of the objects in a List.
        stdin="\n---\n".join(map(json.dumps, suspended)),
    )
    eventually(
        "no CronJob is running",
        lambda: not any(each["status"].get("active") for each in _all(kubectl)),
    )


def run_now(kubectl: Kubectl, namespace: str, cronjob: str, *arguments: str) -> str:
    """Run a CronJob's Job until it completes, with additional arguments, and return its log."""
    name = f"{cronjob}-{uuid4().hex[:6]}"
    with started_now(kubectl, namespace, cronjob, *arguments, name=name):
        assert ends(kubectl, namespace, name), kubectl(
            f"--namespace={namespace}", "logs", f"job/{name}"
        )
        return kubectl(f"--namespace={namespace}", "logs", f"job/{name}")


@contextmanager
def started_now(
    kubectl: Kubectl, namespace: str, cronjob: str, *arguments: str, name: str, code: str = ""
) -> Iterator[None]:
    """Start a CronJob's Job as `name`, with additional arguments, and delete it after the block.

    With `code`, the container executes this Python code instead of its command.
    """
    here = f"--namespace={namespace}"
    create = (here, "create", "job", name, f"--from=cronjob/{cronjob}", "--dry-run=client")
    job = json.loads(kubectl(*create, "--output=json"))
    # Otherwise, the CronJob would delete it together with its own Jobs that have ended.
    del job["metadata"]["ownerReferences"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["args"] = [*container.get("args", []), *arguments]
    if code:
        container["command"] = ["python", "-c", code]
    kubectl("create", "--filename=-", stdin=json.dumps(job))
    try:
        yield
    finally:
        kubectl(here, "delete", "job", name, "--wait=false")


def ends(kubectl: Kubectl, namespace: str, name: str) -> bool:
    """Wait until a Job ends, and return whether it has completed."""
    batch = kubernetes_client.BatchV1Api(kubectl.api())

    def conditions() -> set[str]:
        status = batch.read_namespaced_job_status(name, namespace).status
        return {each.type for each in status.conditions or []}

    eventually(f"{name} ends", lambda: bool(conditions() & {"Complete", "Failed"}))
    return "Complete" in conditions()


def summary_of_run(
    kubectl: Kubectl, namespace: str, cronjob: str, *arguments: str
) -> dict[str, Any]:
    """Run a CronJob as `run_now` does, and return the JSON object in the last line of its log."""
    log = run_now(kubectl, namespace, cronjob, *arguments)
    summary: dict[str, Any] = json.loads(log.splitlines()[-1])
    return summary


def _all(kubectl: Kubectl) -> list[dict[str, Any]]:
    listed = kubectl("get", "cronjobs", "--all-namespaces", "--output=json")
    found: list[dict[str, Any]] = json.loads(listed)["items"]
    return found
