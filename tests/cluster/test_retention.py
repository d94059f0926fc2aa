"""Of every kind the deployed server forgets what is old and keeps what is young, to the row."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from kubernetes import client as kubernetes_client

from prefect_platform.kubectl import Kubectl
from prefect_platform.server.database import Target
from prefect_platform.server.retention import KINDS
from tests.cluster.cronjobs import run_now, suspended
from tests.cluster.deployed import Platform, eventually
from tests.integration.server.rows import Rows, rows

# What k8s/environments/local/retention.yaml says, in days.
_DAYS, _HEARTBEAT_DAYS = 90, 7
_HEARTBEAT = "prefect.flow-run.heartbeat"
_NAMESPACE, _SERVER, _SWEEP = "prefect", "deployment/prefect-server", "prefect-server-retention"


@contextmanager
def _database(kubectl: Kubectl) -> Iterator[Target]:
    """Yield the server's database, reached through the cluster."""
    secrets = kubernetes_client.CoreV1Api(kubectl.api())
    secret = secrets.read_namespaced_secret("prefect-database", _NAMESPACE)
    password = base64.b64decode(secret.data["password"]).decode()
    with kubectl.port_forward("service/prefect-server-database", 5432, namespace=_NAMESPACE) as at:
        yield Target("127.0.0.1", at, "prefect", "prefect", password)


async def _write(new: Rows, days: int) -> set[tuple[str, UUID]]:
    """Write a row of everything that has a period, so many days older than that; return them."""
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


class Kept:
    """Old and young rows in a database, and which of them are still there."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.old, self.young = asyncio.run(self._write())

    async def _write(self) -> tuple[set[tuple[str, UUID]], set[tuple[str, UUID]]]:
        async with rows(self._target) as new:
            written = await _write(new, 1), await _write(new, -1)
            self._written = new.written
            return written

    def left(self) -> set[tuple[str, UUID]]:
        return asyncio.run(self._left())

    async def _left(self) -> set[tuple[str, UUID]]:
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


def test_what_is_old_goes_and_what_is_young_stays(
    platform: Platform, record_property: Callable[[str, object], None]
) -> None:
    kubectl = platform.kubectl
    with _database(kubectl) as target, suspended(kubectl, _NAMESPACE, _SWEEP):
        kept = Kept(target)
        try:
            assert kept.left() == kept.old | kept.young
            swept = json.loads(run_now(kubectl, _NAMESPACE, _SWEEP).splitlines()[-1])["deleted"]
            assert swept == _one_of_each()
            after_sweep = kept.left()

            # The rest is for Prefect's vacuum, which also runs when its process starts.
            kubectl(f"--namespace={_NAMESPACE}", "rollout", "restart", _SERVER)
            kubectl(f"--namespace={_NAMESPACE}", "rollout", "status", _SERVER, "--timeout=300s")
            eventually("only young rows are left", lambda: kept.left() <= kept.young)

            assert kept.left() == kept.young
            again = json.loads(run_now(kubectl, _NAMESPACE, _SWEEP).splitlines()[-1])["deleted"]
            assert {number for kinds in again.values() for number in kinds.values()} == {0}
        finally:
            kept.remove()
    record_property("rows: written old", len(kept.old))
    record_property("rows: deleted by the sweep", len(kept.old) - len(after_sweep & kept.old))
    record_property("rows: young, all kept", len(kept.young))


def _one_of_each() -> dict[str, dict[str, int]]:
    expected: dict[str, dict[str, int]] = {}
    for kind in KINDS:
        expected.setdefault(kind.table, {})[kind.name] = 1
    return expected
