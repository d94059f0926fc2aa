"""An older Prefect and back again: data stays, and runs that are under way end as they would."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import prefect as pinned
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun

from prefect_platform.deploy.connection import connected
from prefect_platform.errors import PlatformError
from prefect_platform.workloads import unready_pods
from tests.cluster.deployed import deploy_code, eventually, final, messages, run_etl
from tests.cluster.ha_server import NAMESPACE, Server
from tests.cluster.older_prefect import REVISION, VERSION, load_older

_STEPS = 20
_ALL_COMPLETED = Counter(Completed=_STEPS)
_LONG = f"""
import time
from prefect import flow, task

@task
def step(number):
    time.sleep(6)
    print("step", number, "is done")

@flow(log_prints=True)
def long_run():
    for number in range({_STEPS}):
        step(number)
"""
# What a server keeps for its users. Runs to come are left out: they are made anew.
_KEPT = {
    "flow_run": "state_type <> 'SCHEDULED'",
    "flow_run_state": "type <> 'SCHEDULED'",
    "task_run": "true",
    "log": "true",
    "events": "true",
    "artifact": "true",
    "block_document": "true",
    "deployment": "true",
    "work_pool": "true",
    "automation": "true",
}


def kept(server: Server) -> dict[str, set[str]]:
    """Return the ids of all rows that nothing may lose, by table."""
    query = " UNION ALL ".join(
        f"SELECT '{table}', id::text FROM {table} WHERE {condition}"  # noqa: S608
        for table, condition in _KEPT.items()
    )
    psql = ("psql", "--username=prefect", "--dbname=prefect", "-At", "--field-separator= ")
    rows = server("exec", "prefect-server-database-0", "--", *psql, f"--command={query}")
    found: dict[str, set[str]] = {table: set() for table in _KEPT}
    for row in rows.splitlines():
        table, _, row_id = row.partition(" ")
        found[table].add(row_id)
    return found


def counted(rows: dict[str, set[str]]) -> dict[str, int]:
    return {table: len(ids) for table, ids in rows.items()}


def lost(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, int]:
    return {table: len(ids - after[table]) for table, ids in before.items() if ids - after[table]}


def says_how(server: Server) -> bool:
    """Return whether a pod of the older image names the revision to go back to."""
    waiting = ("--selector=app.kubernetes.io/component=api", "--container=await-migrations")
    try:
        logs = server("logs", *waiting, "--tail=-1")
    except PlatformError:  # the container has not started
        return False
    return f"migrations.revision={REVISION}" in logs


def shows_log(server: Server) -> bool:
    """Return whether what `make status` shows of the failed migration has its log's last lines."""
    unready = unready_pods(server.kubectl.api(), NAMESPACE, last_words=True)
    shown = [str(each) for each in unready]
    return any("migrate | The database" in each and "does not know" in each for each in shown)


def version(server: Server) -> str:
    with connected(server.kubectl) as client:
        answer: str = client.request("GET", "/admin/version").json()
        return answer


def begin_long_run(server: Server) -> UUID:
    """Return a run that has done its first step and has many before it."""
    with connected(server.kubectl) as client:
        deployment = deploy_code(client, "long_run", _LONG)
        run_id = client.create_flow_run_from_deployment(deployment).id
        eventually("the long run has begun", lambda: bool(steps_done(client, run_id)))
    return run_id


def steps_done(client: SyncPrefectClient, run_id: UUID) -> list[str]:
    return sorted(line for line in messages(client, run_id) if line.startswith("step "))


def tasks(client: SyncPrefectClient, run_id: UUID) -> Counter[str]:
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    return Counter(str(each.state_name) for each in client.read_task_runs(flow_run_filter=of_run))


def assert_ran_once(server: Server, run_id: UUID) -> None:
    """Fail unless the long run has completed, each step once, in its first attempt."""
    with connected(server.kubectl) as client:
        ended: FlowRun = final(client, client.read_flow_run(run_id))
        assert ended.state is not None
        assert ended.state.is_completed(), ended.state
        assert ended.run_count == 1
        # Task runs and logs come by messages, after the run's own state.
        eventually("each step has completed", lambda: tasks(client, run_id) == _ALL_COMPLETED)
        wanted = sorted(f"step {number} is done" for number in range(_STEPS))
        eventually("each step is logged once", lambda: steps_done(client, run_id) == wanted)


def test_a_roll_back_and_an_upgrade_lose_nothing_and_end_no_run(
    server: Server, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    image = server("get", "deployment", "prefect-server", "-o=jsonpath={..containers[0].image}")
    older = load_older(image, tmp_path)
    with connected(server.kubectl) as client:
        assert run_etl(client, "2013-05-01").state_name == "Completed"
        Secret(value="kept through it all").save("upgrade-test", overwrite=True)
    assert version(server) == pinned.__version__

    # The older image alone: refused with the way back, while the newer pods go on.
    server.upgrade(f"--set-string=image.tag={older}", wait=False)
    revision = str(json.loads(server.helm("list", "--output=json", wait=False))[0]["revision"])
    eventually("the older image says how to go back", lambda: says_how(server))
    eventually("the status shows what the Job's log ends with", lambda: shows_log(server))
    assert version(server) == pinned.__version__

    before, run_id = kept(server), begin_long_run(server)
    newest = image.rpartition(":")[2]
    server.upgrade(f"--set-string=image.tag={newest},migrations.revision={REVISION}")
    server.helm("rollback", "prefect-server", revision)

    assert version(server) == VERSION
    assert_ran_once(server, run_id)
    after = kept(server)
    record_property(
        "rows before the roll back, and lost by it", (counted(before), lost(before, after))
    )
    assert lost(before, after) == {}

    with connected(server.kubectl) as client:
        assert run_etl(client, "2013-05-02").state_name == "Completed"
    before, run_id = kept(server), begin_long_run(server)
    server.upgrade(f"--set-string=image.tag={newest},migrations.revision=")

    assert version(server) == pinned.__version__
    assert_ran_once(server, run_id)
    after = kept(server)
    record_property(
        "rows before the upgrade, and lost by it", (counted(before), lost(before, after))
    )
    record_property("steps of the run under way in each, of which each ran once", _STEPS)
    assert lost(before, after) == {}
    with connected(server.kubectl) as client:
        block = client.read_block_document_by_name("upgrade-test", "secret", include_secrets=True)
    assert block.data == {"value": "kept through it all"}
