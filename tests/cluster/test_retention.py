"""The platform deletes all old rows and Jobs, and keeps all young ones, of every kind."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

import yaml
from kubernetes import client as kubernetes_client
from kubernetes.client.exceptions import ApiException
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkPool

from prefect_platform.server.database import DatabaseTarget
from prefect_platform.server.retention import KINDS
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.cronjobs import SHORT_GRACE_PERIOD, summary_of_run
from tests.cluster.deployed import JOBS, POOL, Platform, eventually, helm, read_secret
from tests.support.rows import Rows, rows

# The periods in k8s/environments/local/retention.yaml, in days.
_DAYS, _HEARTBEAT_DAYS = 90, 7
_HEARTBEAT = "prefect.flow-run.heartbeat"
_NAMESPACE, _SERVER, _SWEEP = "prefect", "deployment/prefect-server", "prefect-server-retention"
_REAPER = ("prefect-workers", "prefect-worker-reaper")
_CONTAINER = {"name": "none", "image": "none"}
_FINISHED = "example.org/finished=long-ago"


@contextmanager
def _database(kubectl: Kubectl) -> Iterator[DatabaseTarget]:
    """Yield the server's database, reached through the cluster."""
    password = read_secret(kubectl, _NAMESPACE, "prefect-database")["password"]
    with kubectl.port_forward("service/prefect-server-database", 5432, namespace=_NAMESPACE) as at:
        yield DatabaseTarget("127.0.0.1", at, "prefect", "prefect", password)


async def _write(new: Rows, days: int) -> set[tuple[str, UUID]]:
    """Write a row of each kind, `days` older than its retention period, and return the rows."""
    age = _DAYS + days
    found = {(kind.table, await new.of_kind(kind.table, kind.name, age)) for kind in KINDS}
    run = await new.flow_run("COMPLETED", age)
    return found | {
        ("flow_run", run),
        ("task_run", await new.task_run(run, "COMPLETED", age)),
        ("log", await new.log(1, run)),
        ("artifact", await new.artifact(1, run)),
        ("events", await new.event(_HEARTBEAT_DAYS + days, _HEARTBEAT, "prefect.flow-run.a")),
        ("events", await new.event(age, "prefect.flow-run.Completed", "prefect.flow-run.a")),
    }


class AgedRows:
    """Old and young rows in a database, and which of them remain."""

    def __init__(self, target: DatabaseTarget) -> None:
        self._target = target
        self._written: list[tuple[str, UUID]] = []
        self.old: set[tuple[str, UUID]] = set()
        self.young: set[tuple[str, UUID]] = set()

    def write(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        async with rows(self._target) as new:
            self._written = new.written  # includes rows that were written before a failure
            self.old, self.young = await _write(new, 1), await _write(new, -1)

    def remaining(self) -> set[tuple[str, UUID]]:
        return asyncio.run(self._remaining())

    async def _remaining(self) -> set[tuple[str, UUID]]:
        async with rows(self._target) as there:
            tables = {table for table, _ in self.old}
            return {(table, row) for table in tables for row in await there.ids(table)} & (
                self.old | self.young
            )

    def remove(self) -> None:
        asyncio.run(self._remove())

    async def _remove(self) -> None:
        async with rows(self._target) as there:
            await there.delete(reversed(self._written))


def test_old_rows_are_deleted_and_young_rows_are_kept(
    platform: Platform, record_property: Callable[[str, object], None]
) -> None:
    kubectl = platform.kubectl
    with _database(kubectl) as target:
        kept = AgedRows(target)
        try:
            kept.write()
            assert kept.remaining() == kept.old | kept.young
            swept = summary_of_run(kubectl, _NAMESPACE, _SWEEP)["deleted"]
            assert swept == _one_of_each()
            after_sweep = kept.remaining()

            # Prefect's vacuum, which also runs when its process starts, deletes the rest.
            kubectl(f"--namespace={_NAMESPACE}", "rollout", "restart", _SERVER)
            kubectl(f"--namespace={_NAMESPACE}", "rollout", "status", _SERVER, "--timeout=300s")
            eventually("only young rows remain", lambda: kept.remaining() <= kept.young)

            assert kept.remaining() == kept.young
            again = summary_of_run(kubectl, _NAMESPACE, _SWEEP)["deleted"]
            assert {number for kinds in again.values() for number in kinds.values()} == {0}
        finally:
            kept.remove()
    record_property("old rows that were written", len(kept.old))
    record_property("old rows that the sweep deleted", len(kept.old) - len(after_sweep & kept.old))
    record_property("young rows, all kept", len(kept.young))


def _one_of_each() -> dict[str, dict[str, int]]:
    expected: dict[str, dict[str, int]] = {}
    for kind in KINDS:
        expected.setdefault(kind.table, {})[kind.name] = 1
    return expected


def test_jobs_are_deleted_an_hour_after_success_and_a_day_after_failure(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    ended = {
        "succeeded-old": ("COMPLETED", "Complete", 1.1),
        "succeeded-young": ("COMPLETED", "Complete", 0.9),
        "failed-old": ("FAILED", "Failed", 24.1),
        "failed-young": ("FAILED", "Failed", 23.9),
    }
    pool = prefect.read_work_pool(POOL)
    flow = prefect.create_flow_from_name("retained")
    batch = kubernetes_client.BatchV1Api(platform.kubectl.api())
    made = f"--selector={_FINISHED}"

    def jobs() -> set[str]:
        found = platform.kubectl(f"--namespace={JOBS}", "get", "jobs", made, "--output=name")
        return {name.removeprefix("job.batch/") for name in found.split()}

    try:
        with _unmanaged_jobs_admitted(platform.kubectl):
            for name, (state, condition, hours) in ended.items():
                run = {
                    "flow_id": str(flow),
                    "work_pool_name": POOL,
                    "state": {"type": state, "name": state.capitalize()},
                }
                run_id = prefect.request("POST", "/flow_runs/", json=run).json()["id"]
                batch.create_namespaced_job(JOBS, _job(pool, name, run_id))
                batch.patch_namespaced_job_status(name, JOBS, _ended(condition, hours))
        eventually("the Job that failed a day ago is deleted", lambda: "failed-old" not in jobs())
        counts: Counter[str] = Counter()

        def reaped() -> bool:
            found = summary_of_run(platform.kubectl, *_REAPER, SHORT_GRACE_PERIOD)
            counts.update(found["pools"][POOL]["counts"])
            return bool(counts)

        eventually("the Job that succeeded an hour ago is reaped", reaped)
        # Jobs of earlier tests may have succeeded an hour ago, too.
        assert counts.keys() == {"job_succeeded"}
        assert jobs() == {"succeeded-young", "failed-young"}
    finally:
        platform.kubectl(f"--namespace={JOBS}", "delete", "jobs", made, "--wait=false")
        prefect.delete_flow(flow)


@contextmanager
def _unmanaged_jobs_admitted(kubectl: Kubectl) -> Iterator[None]:
    """Lift the pool's policy, which refuses Jobs that no controller of Kubernetes manages."""
    manifest = helm(kubectl, _REAPER[0], "get", "manifest", "prefect-worker", wait=False)
    installed = [each for each in yaml.safe_load_all(manifest) if each]  # without empty documents
    (binding,) = (each for each in installed if each["kind"].endswith("PolicyBinding"))
    kubectl("delete", "validatingadmissionpolicybinding", binding["metadata"]["name"])
    pod = {"restartPolicy": "Never", "containers": [_CONTAINER]}
    spec = {"managedBy": "example.org/test", "template": {"spec": pod}}

    def admitted() -> bool:
        batch = kubernetes_client.BatchV1Api(kubectl.api())
        try:
            batch.create_namespaced_job(
                JOBS, {"metadata": {"name": "unmanaged"}, "spec": spec}, dry_run="All"
            )
        except ApiException as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            return False
        return True

    try:
        eventually("the policy is no longer in force", admitted)
        yield
    finally:
        # As Helm does it: an upgrade would refuse to change what another client has created.
        apply = ("apply", "--server-side", "--field-manager=helm", "--filename=-")
        kubectl(*apply, stdin=json.dumps(binding))


def _job(pool: WorkPool, name: str, flow_run_id: str) -> dict[str, Any]:
    """Return a Job as the pool creates it, whose status the test sets instead of Kubernetes."""
    ttl = pool.base_job_template["variables"]["properties"]["finished_job_ttl"]["default"]
    return {
        "metadata": {
            "name": name,
            "labels": {
                "prefect.io/flow-run-id": flow_run_id,
                "prefect.io/work-pool-id": str(pool.id),
                **dict([_FINISHED.split("=")]),
            },
        },
        "spec": {
            "managedBy": "example.org/test",
            "ttlSecondsAfterFinished": ttl,
            "template": {"spec": {"restartPolicy": "Never", "containers": [_CONTAINER]}},
        },
    }


def _ended(condition: str, hours: float) -> dict[str, Any]:
    """Return the status of a Job that ended `hours` ago."""
    at = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[condition]
    completed = {"completionTime": at} if condition == "Complete" else {}
    conditions = [
        {"type": each, "status": "True", "lastTransitionTime": at} for each in (before, condition)
    ]
    return {"status": {"startTime": at, **completed, "conditions": conditions}}
