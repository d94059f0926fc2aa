"""The CronJobs of the worker's chart keep the platform as its files declare it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.states import Running

from prefect_platform_cli.host.paths import REPOSITORY
from tests.cluster.cronjobs import SHORT_GRACE_PERIOD, run_now, summary_of_run
from tests.cluster.deployed import (
    JOBS,
    POOL,
    Platform,
    command,
    deploy_code,
    eventually,
    final,
    helm,
    messages,
    put_secret,
)

_WORKERS = "prefect-workers"
_CONFIGURATION, _REAPER = "prefect-worker-configuration", "prefect-worker-reaper"
_RUN = "prefect.io/flow-run-id"
_SLEEPER = """
import time
from prefect import flow

@flow
def sleeper():
    time.sleep(600)
"""
# Makes the worker's client of Kubernetes start a program, as a user that logs in by one.
_CLUSTER_CONFIG = {
    "context_name": "a",
    "config": {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [
            {
                "name": "a",
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1",
                        "command": "touch",
                        "args": ["/tmp/executed"],  # noqa: S108
                        "interactiveMode": "Never",
                    }
                },
            }
        ],
    },
}
_EMPTY = """
from prefect import flow

@flow
def empty():
    pass
"""


def test_the_cronjobs_are_deployed_with_their_schedules_and_not_suspended(
    platform: Platform,
) -> None:
    assert platform.cronjobs == {
        _CONFIGURATION: ("*/5 * * * *", False),
        _REAPER: ("*/2 * * * *", False),
        "prefect-server-retention": ("17 2 * * *", False),
    }


def test_a_plan_is_empty_until_a_manual_change_which_the_cronjob_reverts(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    empty = command("plan", "--prune")
    assert (empty.returncode, "Nothing to change" in empty.stdout) == (0, True), empty.stderr

    prefect.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=7))
    changed = command("plan", "--prune")
    log = run_now(platform.kubectl, _WORKERS, _CONFIGURATION)

    assert f"update work pool {POOL}" in log
    assert changed.returncode == 2, changed.stderr
    assert "concurrency_limit: 7 → 4" in changed.stdout
    assert prefect.read_work_pool(POOL).concurrency_limit == 4


def test_a_changed_template_on_the_server_does_not_take_over_the_worker(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    worker = (f"--namespace={_WORKERS}", "deployment/prefect-worker-default")
    here, name = worker
    waits = f"No run of the work pool {POOL} is started"
    deployment = deploy_code(prefect, "empty", _EMPTY)
    try:
        template = prefect.read_work_pool(POOL).base_job_template
        template["job_configuration"]["cluster_config"] = _CLUSTER_CONFIG
        prefect.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
        eventually(
            "the worker says why it starts nothing",
            lambda: waits in platform.kubectl(here, "logs", name, "--since=5m"),
        )
        after = prefect.create_flow_run_from_deployment(deployment)
        eventually(
            "the run's log says why it waits",
            lambda: any(waits in message for message in messages(prefect, after.id)),
        )

        log = run_now(platform.kubectl, _WORKERS, _CONFIGURATION)

        assert f"update work pool {POOL}" in log
        ended = final(prefect, after).state
        assert ended is not None
        assert ended.is_completed(), ended.message
        assert "executed" not in platform.kubectl(here, "exec", name, "--", "ls", "/tmp")  # noqa: S108
    finally:
        prefect.delete_deployment(deployment)


def test_a_secret_that_is_rotated_in_kubernetes_reaches_its_block_automatically(
    platform: Platform, prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    def value() -> object:
        return prefect.read_block_document_by_name("vendor", "secret").data["value"]

    try:
        put_secret(platform.kubectl, _WORKERS, "vendor", {"token": "the first"})
        _upgrade_worker(platform, _platform_file_with_a_secret(tmp_path))
        assert value() == "the first"

        put_secret(platform.kubectl, _WORKERS, "vendor", {"token": "the second"})
        log = run_now(platform.kubectl, _WORKERS, _CONFIGURATION)
        assert "update block secret/vendor" in log
        assert "the second" not in log
        assert value() == "the second"
    finally:
        restored = command("deploy")
        assert restored.returncode == 0, restored.stderr
    with pytest.raises(ObjectNotFound):
        value()


def _platform_file_with_a_secret(folder: Path) -> Path:
    """Return the platform.yaml with an additional block, whose value is in a Secret."""
    local = REPOSITORY / "k8s" / "environments" / "local" / "platform.yaml"
    content = yaml.safe_load(local.read_text())
    content["blocks"]["secret/vendor"] = {"value": {"secret": {"name": "vendor", "key": "token"}}}
    path = folder / "platform.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _upgrade_worker(platform: Platform, platform_file: Path) -> None:
    helm(
        platform.kubectl,
        _WORKERS,
        *("upgrade", "prefect-worker", str(REPOSITORY / "helm" / "prefect-worker")),
        "--reset-then-reuse-values",
        f"--set-file=configuration.platform={platform_file}",
        "--set=configuration.secrets={vendor}",
    )


def test_the_reaper_crashes_a_run_without_a_job_and_deletes_a_job_without_a_run(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    deployment = deploy_code(prefect, "sleeper", _SLEEPER)
    here = f"--namespace={JOBS}"
    try:
        deleted = prefect.create_flow_run_from_deployment(deployment)

        def running() -> bool:
            state = prefect.read_flow_run(deleted.id).state
            return state is not None and state.is_running()

        eventually("the run runs", running)
        with _without_the_observer(platform):
            prefect.delete_flow_run(deleted.id)
            # A run whose node was lost together with its pod and its Job.
            lost = prefect.create_flow_run_from_deployment(deployment)
            prefect.update_flow_run(lost.id, infrastructure_pid=f"{JOBS}:lost")
            prefect.set_flow_run_state(lost.id, Running(), force=True)
            counts: Counter[str] = Counter()

            def cleaned_up() -> bool:
                periods = (SHORT_GRACE_PERIOD, "--silence=5")
                found = summary_of_run(platform.kubectl, _WORKERS, _REAPER, *periods)
                counts.update(found["pools"][POOL]["counts"])
                return {"job_without_run", "run_without_job"} <= counts.keys()

            eventually("the run and the Job are cleaned up", cleaned_up)
        state = prefect.read_flow_run(lost.id).state
        left = platform.kubectl(
            here, "get", "jobs", f"--selector={_RUN}={deleted.id}", "--output=name"
        )

        assert counts == {"job_without_run": 1, "run_without_job": 1}
        assert state is not None
        assert state.is_crashed()
        assert "no longer exists" in (state.message or "")
        assert left == ""
    finally:
        prefect.delete_deployment(deployment)


@contextmanager
def _without_the_observer(platform: Platform) -> Iterator[None]:
    """Stop the worker, whose observer would detect the missing Job."""
    here, worker = f"--namespace={_WORKERS}", "deployment/prefect-worker-default"
    platform.kubectl(here, "scale", worker, "--replicas=0")
    try:
        eventually(
            "the worker's pod is deleted",
            lambda: (
                not platform.kubectl(
                    here, "get", "pods", "--selector=app.kubernetes.io/component=worker", "-oname"
                )
            ),
        )
        yield
    finally:
        platform.kubectl(here, "scale", worker, "--replicas=1")
