"""The platform that the tests of this folder share, and functions to work with it."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, Log

from prefect_platform.polling import wait_until
from prefect_platform_cli.cluster.engine.detection import recorded_engine
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.support.executed_commands import ExecutedCommands

CLUSTER = "platform-test"
POOL, JOBS = "default", "flows-default"
DEPLOYMENT = "etl-daily/daily"
# Requests of a job pod that let more runs fit on the node than the pool's own limit allows.
SMALL = {"cpu_request": "20m", "memory_request": "128Mi"}
_PAGE = 200  # the maximum of log lines in a response of the API
_ENDS_WITHIN = 420  # seconds, for several runs that start at once on a busy machine
_T = TypeVar("_T")


@dataclass(frozen=True)
class Platform:
    """The output of `deploy`, the commands that were executed meanwhile, and kubectl.

    `executed` is None if the kernel does not report commands. `cronjobs` contains the schedule of
    each CronJob, and whether it was suspended, before the tests suspended all of them.
    """

    printed: str
    executed: ExecutedCommands | None
    kubectl: Kubectl
    cronjobs: dict[str, tuple[str, bool]]


def in_parallel(*calls: Callable[[], _T]) -> list[_T]:
    """Make all calls in parallel, and return their results in the order of the calls."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(call) for call in calls]]


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line tool as a user does, against the cluster of these tests."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"DOCKER_HOST", "KUBECONFIG"}}
    return subprocess.run(
        [Path(sys.executable).with_name("prefect-platform"), *arguments],
        env={**inherited, "CLUSTER_NAME": CLUSTER, "COLUMNS": "200", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def on_node(*command: str, cluster: str = CLUSTER, node: str | None = None) -> str:
    """Run a command on a node, by default the control plane, and return its output."""
    engine = recorded_engine(cluster)
    assert engine is not None
    return run(
        [engine.docker, "exec", node or f"{cluster}-control-plane", *command],
        failure=f"{command[0]} failed in the node",
        next_step=f"see whether the cluster runs: make status CLUSTER_NAME={cluster}",
        env=engine.environment(),
    )


def helm(kubectl: Kubectl, namespace: str, *arguments: str, wait: bool = True) -> str:
    """Run helm in a namespace. By default, it waits for pods and Jobs."""
    waiting = ("--wait", "--wait-for-jobs", "--timeout", "5m") if wait else ()
    return run(
        [
            *(tool("helm"), "--kubeconfig", kubectl.kubeconfig),
            *(*arguments, "--namespace", namespace, *waiting),
        ],
        failure=f"helm {arguments[0]} failed",
        next_step=f"look at the cluster: kubectl --namespace {namespace} get pods,events",
    )


def put_secret(kubectl: Kubectl, namespace: str, name: str, content: dict[str, str]) -> None:
    """Create a Secret, or update it with this content."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
    metadata = {"name": name, "namespace": namespace}
    kubectl.apply(
        json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    )


def read_secret(kubectl: Kubectl, namespace: str, name: str) -> dict[str, str]:
    """Return the values of a Secret by their keys."""
    secret = kubernetes_client.CoreV1Api(kubectl.api()).read_namespaced_secret(name, namespace)
    return {key: base64.b64decode(value).decode() for key, value in secret.data.items()}


def run_etl(prefect: SyncPrefectClient, date: str) -> FlowRun:
    """Run the daily ETL for `date` and return the run in its final state."""
    return final(prefect, start_etl(prefect, date))


def start_etl(prefect: SyncPrefectClient, date: str) -> FlowRun:
    """Start the daily ETL for `date`."""
    deployment = prefect.read_deployment_by_name(DEPLOYMENT)
    return prefect.create_flow_run_from_deployment(deployment.id, parameters={"date": date})


@contextmanager
def pool_concurrency(kubectl: Kubectl, runs: int) -> Iterator[None]:
    """Set the pool's concurrency limit to `runs` during the block. The runs have to be `SMALL`."""

    def limit(number: int | None) -> None:
        with connected(kubectl) as prefect:
            prefect.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=number))

    with connected(kubectl) as prefect:
        before = prefect.read_work_pool(POOL).concurrency_limit
    limit(runs)
    try:
        yield
    finally:
        limit(before)


def deploy_code(prefect: SyncPrefectClient, name: str, code: str) -> UUID:
    """Deploy the flow `name` (snake_case) whose module is `code`, and return the deployment's id.

    The deployment contains the code, so that the image needs no flows for tests.
    """
    file = f"/tmp/{name}.py"  # noqa: S108 - in the job pod
    write = f'open("{file}", "w").write(bytes.fromhex("{code.encode().hex()}").decode())'
    script = {"script": f"python -c '{write}'"}
    return prefect.create_deployment(
        prefect.create_flow_from_name(name.replace("_", "-")),
        name="test",
        entrypoint=f"{file}:{name}",
        work_pool_name=POOL,
        pull_steps=[{"prefect.deployments.steps.run_shell_script": script}],
        enforce_parameter_schema=False,
    )


def final(prefect: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Wait until `run` ends, and return it in its final state."""
    found = run

    def has_ended() -> bool:
        nonlocal found
        found = prefect.read_flow_run(run.id)
        return found.state is not None and found.state.is_final()

    ended = wait_until(_unless_disconnected(has_ended), _ENDS_WITHIN, every=0.5)
    assert ended, f"{run.name} has not ended after {_ENDS_WITHIN} s: {found.state!r}"
    return found


HEARING = """
from prefect import get_client, runtime

def told(word):
    with get_client(sync_client=True) as client:
        return word in client.read_flow_run(runtime.flow_run.id).tags
"""
"""Code for flows that wait until the test tells their run a word."""


def tell(prefect: SyncPrefectClient, run_id: UUID, word: str) -> None:
    """Give a run a tag that its flow waits for."""
    prefect.update_flow_run(run_id, tags={*prefect.read_flow_run(run_id).tags, word})


def messages(prefect: SyncPrefectClient, run_id: UUID) -> list[str]:
    """Return the messages that the API has so far of the log of a run."""
    return [line.message for line in log_lines(prefect, run_id)]


def log_lines(prefect: SyncPrefectClient, run_id: UUID) -> list[Log]:
    """Return the lines that the API has so far of the log of a run, oldest first."""
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    found: list[Log] = []
    while page := prefect.read_logs(of_run, limit=_PAGE, offset=len(found)):
        found.extend(page)
    return found


def eventually(
    what: str, probe: Callable[[], bool], within: float = 180, *, every: float = 0.5
) -> None:
    """Wait until `probe` returns true, and fail with `what` after `within` seconds.

    `every` is the time between two probes. Give a longer one to a long wait whose probe starts
    kubectl, because the lanes share two processors.
    """
    holds = wait_until(_unless_disconnected(probe), within, every=every)
    assert holds, f"not true after {within} s: {what}"


def _unless_disconnected(probe: Callable[[], bool]) -> Callable[[], bool]:
    """Let a probe count as not yet true while a port-forward to the API starts again.

    kubectl exits when a pod resets one of its connections. On a busy machine, its restart takes
    longer than Prefect's client tries to connect.
    """

    def probed() -> bool:
        try:
            return probe()
        except httpx.TransportError:
            return False

    return probed


def task_states(prefect: SyncPrefectClient, run: FlowRun) -> dict[str, str]:
    """Return the name of each task run's final state by the name of its task."""
    task_runs = prefect.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    )
    return {task.name.rpartition("-")[0]: str(task.state_name) for task in task_runs}


def may(kubectl: Kubectl, account: str, verb: str, resource: str) -> bool:
    """Return whether a service account has a permission in the namespace of flows."""
    name, _, group = resource.partition(".")
    review = kubernetes_client.V1SubjectAccessReview(
        spec=kubernetes_client.V1SubjectAccessReviewSpec(
            user=f"system:serviceaccount:{account}",
            groups=["system:serviceaccounts", "system:authenticated"],
            resource_attributes=kubernetes_client.V1ResourceAttributes(
                namespace=JOBS, verb=verb, resource=name, group=group
            ),
        )
    )
    api = kubernetes_client.AuthorizationV1Api(kubectl.api())
    return bool(api.create_subject_access_review(review).status.allowed)


def restricted_pod(name: str, namespace: str, container: dict[str, Any]) -> dict[str, Any]:
    """Return a pod that runs `container` once, and that the platform's namespaces admit."""
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{"name": name, "securityContext": context, **container}],
        },
    }
