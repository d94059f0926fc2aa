"""A hostile flow cannot leave its own pod, and does not disturb the run next to it."""

import base64
import hashlib
import inspect
import json
import shlex
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from prefect_platform_cli.deploy.connection import connected
from tests.cluster import hostile
from tests.cluster.deployed import (
    JOBS,
    SMALL,
    Platform,
    deploy_code,
    eventually,
    final,
    messages,
    pool_concurrency,
    tell,
)
from tests.support.documented import block

# The secrets that the runs of the local environment need: the keys of the object store, and the
# passwords of the warehouse and of the result locks.
_SECRETS_OF_RUNS = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "WAREHOUSE_PASSWORD",
    "RESULT_LOCKS_URL",
}
_ATTACKS = ("look_around", "fork", "eat_memory", "fill_disk")
_LONGEST_WORD = 12  # characters in base64


class Neighbour:
    """A flow run next to the hostile ones."""

    def __init__(self, prefect: SyncPrefectClient, run: FlowRun) -> None:
        self._prefect, self.run = prefect, run

    def count(self) -> int:
        """Return how far the run has counted."""
        lines = messages(self._prefect, self.run.id)
        return max((int(line) for line in lines if line.isdigit()), default=0)

    def assert_keeps_running(self) -> None:
        """Fail unless the run is running and keeps counting."""
        before = self.count()
        eventually("the neighbour keeps counting", lambda: self.count() > before + 2)
        state = self._prefect.read_flow_run(self.run.id).state
        assert state is not None
        assert state.is_running(), state


@pytest.fixture(scope="module")
def deployments(platform: Platform) -> Iterator[dict[str, UUID]]:
    """Deploy the flows of `hostile`, and delete them when the module ends."""
    code = inspect.getsource(hostile)
    with connected(platform.kubectl) as prefect:
        made = {name: deploy_code(prefect, name, code) for name in ("hostile", "neighbour")}
        try:
            with pool_concurrency(platform.kubectl, len(_ATTACKS) + 1):
                yield made
        finally:
            for each in made.values():
                prefect.delete_deployment(each)


@pytest.fixture(scope="module")
def neighbour(platform: Platform, deployments: dict[str, UUID]) -> Iterator[Neighbour]:
    """Run the neighbour for the whole module, and fail unless it completes."""
    with connected(platform.kubectl) as prefect:
        run = prefect.create_flow_run_from_deployment(deployments["neighbour"], job_variables=SMALL)
        found = Neighbour(prefect, run)
        eventually("the neighbour runs", lambda: found.count() > 0)
        yield found
        tell(prefect, run.id, "stop")
        ended = final(prefect, run).state
        assert ended is not None
        assert ended.is_completed(), ended


@pytest.fixture(scope="module")
def attacks(
    platform: Platform, deployments: dict[str, UUID], neighbour: Neighbour
) -> dict[str, FlowRun]:
    """Start all attacks at once, next to the neighbour, and return their runs by name."""
    assert neighbour.count() > 0
    with connected(platform.kubectl) as prefect:
        return {
            name: prefect.create_flow_run_from_deployment(
                deployments["hostile"], parameters={"attack": name}, job_variables=SMALL
            )
            for name in _ATTACKS
        }


def test_a_flow_has_no_privileges_and_sees_only_its_own_pod(
    platform: Platform,
    prefect: SyncPrefectClient,
    attacks: dict[str, FlowRun],
    neighbour: Neighbour,
) -> None:
    run = final(prefect, attacks["look_around"])
    found = printed(platform, run)
    environment = found.pop("environment")

    assert found == {
        "status": {
            **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16),
            "NoNewPrivs": "1",
            "Seccomp": "2",
        },
        "token": False,
        "setuid programs": [],
        "setuid": "EPERM",
        "user namespace": "EPERM",
        "device": "EPERM",
        "root": "EROFS",
        "processes of others": False,
        "interfaces": ["eth0", "lo"],
        "block devices": [],
        "kubelet": "TimeoutError",
    }
    assert {
        name for name, digest in environment.items() if digest in secrets(platform)
    } == _SECRETS_OF_RUNS
    neighbour.assert_keeps_running()


def test_a_fork_bomb_stops_at_the_process_limit_of_its_pod(
    platform: Platform,
    prefect: SyncPrefectClient,
    attacks: dict[str, FlowRun],
    neighbour: Neighbour,
) -> None:
    run = final(prefect, attacks["fork"])
    found = printed(platform, run)

    assert found["refused"] == "EAGAIN"
    assert 500 < found["processes"] < 1024
    assert node_is_ready(platform)
    neighbour.assert_keeps_running()


def test_only_the_flow_that_uses_too_much_memory_is_killed(
    platform: Platform,
    prefect: SyncPrefectClient,
    attacks: dict[str, FlowRun],
    neighbour: Neighbour,
) -> None:
    run = final(prefect, attacks["eat_memory"])

    assert run.state is not None
    assert run.state.is_crashed(), run.state
    documented = block("flows/debug.md", "## The run crashed", "sh").replace("\\\n", "")
    _, *command = shlex.split(documented.replace("RUN", str(run.id)))
    eventually("its pod was killed for memory", lambda: "OOMKilled" in platform.kubectl(*command))
    assert node_is_ready(platform)
    neighbour.assert_keeps_running()


def test_only_the_flow_that_fills_the_disk_is_evicted_and_it_is_not_restarted(
    platform: Platform,
    prefect: SyncPrefectClient,
    attacks: dict[str, FlowRun],
    neighbour: Neighbour,
) -> None:
    run = final(prefect, attacks["fill_disk"])

    (pod,) = pods(platform, run)
    assert pod.status.reason == "Evicted"
    assert run.state is not None
    assert run.state.is_crashed(), run.state
    assert run.state.message == (
        f"Kubernetes evicted the pod {JOBS}/{pod.metadata.name} because it exceeded "
        'its own limit: Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". The run is not '
        "started again, because it would exceed the limit again. Next step: let the flow write "
        "less, or raise jobs.tmpSizeLimit of the chart prefect-worker, then start the run again."
    )
    assert node_is_ready(platform)
    neighbour.assert_keeps_running()


def pods(platform: Platform, run: FlowRun) -> list[kubernetes_client.V1Pod]:
    """Return the pods of a run, including terminated ones."""
    core = kubernetes_client.CoreV1Api(platform.kubectl.api())
    found: list[kubernetes_client.V1Pod] = core.list_namespaced_pod(
        JOBS, label_selector=f"prefect.io/flow-run-id={run.id}"
    ).items
    return found


def printed(platform: Platform, run: FlowRun) -> dict[str, Any]:
    """Return what the hostile flow found."""
    assert run.state is not None
    assert run.state.is_completed(), run.state
    log = platform.kubectl(
        f"--namespace={JOBS}", "logs", f"--selector=prefect.io/flow-run-id={run.id}", "--tail=-1"
    )
    line = next(line for line in log.splitlines() if line.startswith("found "))
    found: dict[str, Any] = json.loads(line.removeprefix("found "))
    return found


def secrets(platform: Platform) -> set[str]:
    """Return the digest of every value of every Secret in the cluster."""
    core = kubernetes_client.CoreV1Api(platform.kubectl.api())
    return {
        hashlib.sha256(base64.b64decode(value)).hexdigest()
        for secret in core.list_secret_for_all_namespaces().items
        for value in (secret.data or {}).values()
        if len(value) > _LONGEST_WORD  # Helm's records contain words such as "true"
    }


def node_is_ready(platform: Platform) -> bool:
    (node,) = kubernetes_client.CoreV1Api(platform.kubectl.api()).list_node().items
    return any(each.type == "Ready" and each.status == "True" for each in node.status.conditions)
