"""The deployed platform is as its files say, stays so, and is swept: by the charts' CronJobs."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.states import Running

from tests.cluster.deployed import (
    JOBS,
    POOL,
    Platform,
    command,
    deploy_code,
    eventually,
)

_WORKERS = "prefect-workers"
_RUN = "prefect.io/flow-run-id"
_SLEEPER = """
import time
from prefect import flow

@flow
def sleeper():
    time.sleep(600)
"""


@contextmanager
def job_of(platform: Platform, namespace: str, cronjob: str) -> Iterator[str]:
    """Run a CronJob once, now, and yield its log when it has completed."""
    name = f"{cronjob}-{uuid4().hex[:6]}"
    here = f"--namespace={namespace}"
    platform.kubectl(here, "create", "job", name, f"--from=cronjob/{cronjob}")
    try:
        platform.kubectl(here, "wait", f"job/{name}", "--for=condition=Complete", "--timeout=300s")
        yield platform.kubectl(here, "logs", f"job/{name}")
    finally:
        platform.kubectl(here, "delete", "job", name)


def test_a_plan_after_the_deploy_is_empty_and_shows_what_somebody_changed(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    empty = command("plan", "--prune")
    assert (empty.returncode, "Nothing to change" in empty.stdout) == (0, True), empty.stderr

    with _suspended(platform, "prefect-worker-configuration"):
        prefect.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=7))
        changed = command("plan", "--prune")
        with job_of(platform, _WORKERS, "prefect-worker-configuration") as log:
            assert f"update work pool {POOL}" in log

    assert changed.returncode == 2, changed.stderr
    assert "concurrency_limit: 7 → 2" in changed.stdout
    assert prefect.read_work_pool(POOL).concurrency_limit == 2


def test_the_reaper_ends_a_run_whose_job_is_gone_and_a_job_whose_run_is_gone(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    deployment = deploy_code(prefect, "sleeper", _SLEEPER)
    here = f"--namespace={JOBS}"
    try:
        forgotten = prefect.create_flow_run_from_deployment(deployment)

        def running() -> bool:
            state = prefect.read_flow_run(forgotten.id).state
            return state is not None and state.is_running()

        eventually("the run runs", running)
        with _suspended(platform, "prefect-worker-reaper"), _without_the_observer(platform):
            prefect.delete_flow_run(forgotten.id)
            # As a node leaves it behind that is lost with its pod and its Job.
            lost = prefect.create_flow_run_from_deployment(deployment)
            prefect.update_flow_run(lost.id, infrastructure_pid=f"{JOBS}:lost")
            prefect.set_flow_run_state(lost.id, Running(), force=True)
            counts: Counter[str] = Counter()

            def settled() -> bool:
                with job_of(platform, _WORKERS, "prefect-worker-reaper") as log:
                    counts.update(json.loads(log.splitlines()[-1])["pools"][POOL]["counts"])
                return {"job_without_run", "run_without_job"} <= counts.keys()

            # A Job is a minute old before it may be without a run.
            eventually("run and Job are settled", settled, within=300)
        state = prefect.read_flow_run(lost.id).state
        left = platform.kubectl(
            here, "get", "jobs", f"--selector={_RUN}={forgotten.id}", "--output=name"
        )

        assert counts == {"job_without_run": 1, "run_without_job": 1}
        assert state is not None
        assert state.is_crashed()
        assert "does not exist any more" in (state.message or "")
        assert left == ""
    finally:
        prefect.delete_deployment(deployment)


@contextmanager
def _suspended(platform: Platform, cronjob: str) -> Iterator[None]:
    """Keep a CronJob from doing by itself what the test waits for."""
    patch = (f"--namespace={_WORKERS}", "patch", "cronjob", cronjob, "--patch")
    platform.kubectl(*patch, '{"spec": {"suspend": true}}')
    try:
        yield
    finally:
        platform.kubectl(*patch, '{"spec": {"suspend": false}}')


@contextmanager
def _without_the_observer(platform: Platform) -> Iterator[None]:
    """Stop the worker, which would see a vanished Job by itself."""
    here, worker = f"--namespace={_WORKERS}", "deployment/prefect-worker-default"
    platform.kubectl(here, "scale", worker, "--replicas=0")
    try:
        eventually(
            "the worker's pod is gone",
            lambda: (
                not platform.kubectl(
                    here, "get", "pods", "--selector=app.kubernetes.io/component=worker", "-oname"
                )
            ),
        )
        yield
    finally:
        platform.kubectl(here, "scale", worker, "--replicas=1")


def test_the_sweep_runs_in_its_pod_and_says_what_it_deleted(platform: Platform) -> None:
    with job_of(platform, "prefect", "prefect-server-retention") as log:
        deleted = json.loads(log.splitlines()[-1])["deleted"]
        assert {"flow_run", "task_run", "log"} <= deleted.keys()
