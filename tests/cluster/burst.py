"""A burst of flow runs that is disturbed while some of them are active."""

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
    """The outcome of a burst. The values of each counter are numbers of runs."""

    states: Counter[str]
    starts: Counter[int]
    """By the number of their starts."""
    jobs: Counter[int]
    """By the number of their Jobs."""
    ends: Counter[int]
    """By how often they logged that they are done."""
    started_before: int
    """The number of runs that had started before the disturbance."""
    failures: list[str]
    """The state messages of runs that did not complete."""


def burst(kubectl: Kubectl, runs: int, disturb: Callable[[], object]) -> Outcome:
    """Create `runs` runs, call `disturb` when some have started, and wait until all have ended."""
    with connected(kubectl) as prefect:
        ids = create(prefect, runs)
        eventually("a run starts", lambda: any(_has_started(each) for each in read(prefect, ids)))
        started = sum(_has_started(each) for each in read(prefect, ids))
    disturb()
    with connected(kubectl) as prefect:
        wait_until(
            lambda: all(has_ended(each) for each in read(prefect, ids)), 300 + 10 * runs, every=1
        )
        return _outcome(kubectl, prefect, ids, started)


def take_api_away(kubectl: Kubectl, seconds: float) -> None:
    """Scale the API to zero pods, and to one pod after `seconds`."""
    scale = ("--namespace=prefect", "scale", "deployment/prefect-server")
    kubectl(*scale, "--replicas=0")
    try:
        gone = ("wait", "pod", f"--selector={_API}", "--for=delete", "--timeout=120s")
        kubectl("--namespace=prefect", *gone)
        time.sleep(seconds)  # the outage that the runs have to survive
    finally:
        kubectl(*scale, "--replicas=1")
    back = ("rollout", "status", "deployment/prefect-server", "--timeout=300s")
    kubectl("--namespace=prefect", *back)


def create(prefect: SyncPrefectClient, runs: int) -> list[UUID]:
    """Create runs that take three seconds each, and return their ids."""
    deployment = deploy_code(prefect, "one_of_many", _FLOW)
    return [
        prefect.create_flow_run_from_deployment(
            deployment, parameters={"number": number}, job_variables=SMALL
        ).id
        for number in range(runs)
    ]


def _outcome(
    kubectl: Kubectl, prefect: SyncPrefectClient, ids: list[UUID], started: int
) -> Outcome:
    ended = read(prefect, ids)
    listed = json.loads(kubectl(f"--namespace={JOBS}", "get", "jobs", "--output=json"))["items"]
    of_run = Counter(each["metadata"]["labels"].get("prefect.io/flow-run-id") for each in listed)
    return Outcome(
        states=Counter(str(each.state_name) for each in ended),
        starts=Counter(each.run_count for each in ended),
        jobs=Counter(of_run[str(run_id)] for run_id in ids),
        ends=Counter(_times_done(prefect, run_id) for run_id in ids),
        started_before=started,
        failures=[
            f"{each.name}: {each.state and each.state.message}"
            for each in ended
            if each.state_name != "Completed"
        ],
    )


def _times_done(prefect: SyncPrefectClient, run_id: UUID) -> int:
    # Logs arrive in batches, after the final state.
    return wait_until(lambda: _count_done(prefect, run_id), 120, every=0.5)


def _count_done(prefect: SyncPrefectClient, run_id: UUID) -> int:
    return sum("is done" in line for line in messages(prefect, run_id))


def read(prefect: SyncPrefectClient, ids: list[UUID]) -> list[FlowRun]:
    """Return the runs with these ids as they are now."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=ids))
    return prefect.read_flow_runs(flow_run_filter=chosen, limit=len(ids))


def _has_started(run: FlowRun) -> bool:
    return run.start_time is not None


def has_ended(run: FlowRun) -> bool:
    """Return whether the run is in a final state."""
    return run.state is not None and run.state.is_final()
