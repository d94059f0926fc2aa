"""Many runs at once, and something that happens in the middle of them."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun

from prefect_platform.polling import wait_until
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import JOBS, SMALL, deploy_code, eventually, messages

_FLOW = """
import time
from prefect import flow, task

@task
def work(number):
    time.sleep(3)
    return number

@flow(log_prints=True)
def one_of_many(number):
    print("number", work(number), "is done")
"""
_API = "app.kubernetes.io/name=prefect-server,app.kubernetes.io/component=api"


@dataclass
class Outcome:
    """What became of the runs; each counter counts runs."""

    states: Counter[str]
    starts: Counter[int]
    """By how often they started."""
    jobs: Counter[int]
    """By how many Jobs they had."""
    ends: Counter[int]
    """By how often they logged that they are done."""
    begun_before: int
    """Runs that had begun when it happened."""
    complaints: list[str]
    """The state messages of runs that did not complete."""


def burst(kubectl: Kubectl, runs: int, disturb: Callable[[], object]) -> Outcome:
    """Create `runs` runs, call `disturb` once some of them run, and wait for the end of all."""
    with connected(kubectl) as prefect:
        ids = _create(prefect, runs)
        eventually("a run begins", lambda: any(_begun(each) for each in _read(prefect, ids)))
        begun = sum(_begun(each) for each in _read(prefect, ids))
    disturb()
    with connected(kubectl) as prefect:
        wait_until(
            lambda: all(_ended(each) for each in _read(prefect, ids)), 300 + 10 * runs, every=1
        )
        return _outcome(kubectl, prefect, ids, begun)


def take_api_away(kubectl: Kubectl, seconds: float) -> None:
    """Scale the API to nothing, and after so many seconds to one pod."""
    scale = ("--namespace=prefect", "scale", "deployment/prefect-server")
    kubectl(*scale, "--replicas=0")
    try:
        gone = ("wait", "pod", f"--selector={_API}", "--for=delete", "--timeout=120s")
        kubectl("--namespace=prefect", *gone)
        time.sleep(seconds)  # not a wait for anything: it is what the runs have to survive
    finally:
        kubectl(*scale, "--replicas=1")
    back = ("rollout", "status", "deployment/prefect-server", "--timeout=300s")
    kubectl("--namespace=prefect", *back)


def _create(prefect: SyncPrefectClient, runs: int) -> list[UUID]:
    deployment = deploy_code(prefect, "one_of_many", _FLOW)
    return [
        prefect.create_flow_run_from_deployment(
            deployment, parameters={"number": number}, job_variables=SMALL
        ).id
        for number in range(runs)
    ]


def _outcome(kubectl: Kubectl, prefect: SyncPrefectClient, ids: list[UUID], begun: int) -> Outcome:
    ended = _read(prefect, ids)
    listed = json.loads(kubectl(f"--namespace={JOBS}", "get", "jobs", "--output=json"))["items"]
    of_run = Counter(each["metadata"]["labels"].get("prefect.io/flow-run-id") for each in listed)
    return Outcome(
        states=Counter(str(each.state_name) for each in ended),
        starts=Counter(each.run_count for each in ended),
        jobs=Counter(of_run[str(run_id)] for run_id in ids),
        ends=Counter(_times_done(prefect, run_id) for run_id in ids),
        begun_before=begun,
        complaints=[
            f"{each.name}: {each.state and each.state.message}"
            for each in ended
            if each.state_name != "Completed"
        ],
    )


def _times_done(prefect: SyncPrefectClient, run_id: UUID) -> int:
    # Logs come in batches, after the state.
    return wait_until(lambda: _count_done(prefect, run_id), 30, every=0.5)


def _count_done(prefect: SyncPrefectClient, run_id: UUID) -> int:
    return sum("is done" in line for line in messages(prefect, run_id))


def _read(prefect: SyncPrefectClient, ids: list[UUID]) -> list[FlowRun]:
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=ids))
    return prefect.read_flow_runs(flow_run_filter=chosen, limit=len(ids))


def _begun(run: FlowRun) -> bool:
    return run.start_time is not None


def _ended(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()
