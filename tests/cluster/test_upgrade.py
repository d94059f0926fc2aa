"""A downgrade to an older Prefect and an upgrade lose no data and disturb no active run."""

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from uuid import UUID

import prefect as pinned
import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
)

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube.workloads import unready_pods
from tests.cluster.deployed import (
    HEARING,
    deploy_code,
    eventually,
    final,
    log_lines,
    messages,
    run_etl,
    start_etl,
    tell,
)
from tests.cluster.ha_server import NAMESPACE, Server, single_server
from tests.cluster.older_prefect import DROPPED, REVISION, VERSION

_PAGE = 200  # the maximum of task runs in a response of the API
# Runs a step about every second until the change of versions is over.
_LONG = f"""{HEARING}
import itertools, time
from prefect import flow, task

@task
def step(number):
    time.sleep(1)
    print("step", number, "is done")

@flow(log_prints=True)
def through_a_change():
    end = time.monotonic() + 900
    for number in itertools.count():
        step(number)
        if told("over"):
            print("steps:", number + 1)
            return
        if time.monotonic() > end:
            raise TimeoutError("the change is not over after 900 s")
"""
# The data that a server keeps for its users, without scheduled runs, which are created again.
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


def run_sql(server: Server, query: str) -> list[list[str]]:
    """Run a query in the database, and return the fields of each row."""
    psql = ("psql", "--username=prefect", "--dbname=prefect", "-At", "--field-separator= ")
    answer = server("exec", "prefect-server-database-0", "--", *psql, f"--command={query}")
    return [line.split(" ") for line in answer.splitlines()]


def kept(server: Server) -> dict[str, set[str]]:
    """Return the IDs of all rows that must not be lost, by table."""
    query = " UNION ALL ".join(
        f"SELECT '{table}', id::text FROM {table} WHERE {condition}"  # noqa: S608
        for table, condition in _KEPT.items()
    )
    found: dict[str, set[str]] = {table: set() for table in _KEPT}
    for table, row_id in run_sql(server, query):
        found[table].add(row_id)
    return found


def rows(server: Server) -> dict[str, int]:
    """Return how many rows each table has."""
    tables = run_sql(server, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    query = " UNION ALL ".join(
        f"SELECT '{table}', count(*) FROM {table}"  # noqa: S608
        for (table,) in sorted(tables)
    )
    return {table: int(count) for table, count in run_sql(server, query)}


def hold_event(server: Server) -> None:
    """Store an event as one that an automation holds. Prefect holds events only for a while."""
    run_sql(
        server,
        "INSERT INTO automation_held_event (automation_id, trigger_id, event_id, occurred) "
        "SELECT id, gen_random_uuid(), gen_random_uuid(), now() FROM automation LIMIT 1",
    )


def image(server: Server) -> str:
    of_deployment = ("deployment", "prefect-server", "-o=jsonpath={..containers[0].image}")
    return server("get", *of_deployment)


def names_lost_rows(server: Server) -> bool:
    """Return whether the Job refuses the downgrade because of the table with the event."""
    unready = unready_pods(server.kubectl.api(), NAMESPACE, with_logs=True)
    wanted = (
        r"migrate \| The downgrade would delete tables that the older Prefect does not have: "
        r"automation_held_event \([1-9]\d* rows\)"
    )
    return any(re.search(wanted, str(each)) for each in unready)


def lost(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, int]:
    return {table: len(ids - after[table]) for table, ids in before.items() if ids - after[table]}


def explains_downgrade(server: Server) -> bool:
    """Return whether a pod of the older image names the revision to downgrade to."""
    waiting = ("--selector=app.kubernetes.io/component=api", "--container=await-migrations")
    try:
        logs = server("logs", *waiting, "--tail=-1")
    except PlatformError:  # the container has not started
        return False
    return f"migrations.revision={REVISION}" in logs


def shows_log(server: Server) -> bool:
    """Return whether `make status` shows the last log lines of the failed migration."""
    unready = unready_pods(server.kubectl.api(), NAMESPACE, with_logs=True)
    shown = [str(each) for each in unready]
    return any("migrate | The database" in each and "does not know" in each for each in shown)


def version(server: Server) -> str:
    with connected(server.kubectl) as client:
        answer: str = client.request("GET", "/admin/version").json()
        return answer


def begin_long_run(server: Server) -> UUID:
    """Start a run that continues until the change is over, and return it after its first step."""
    with connected(server.kubectl) as client:
        deployment = deploy_code(client, "through_a_change", _LONG)
        run_id = client.create_flow_run_from_deployment(deployment).id
        eventually("the long run has begun", lambda: bool(steps_done(client, run_id)))
    return run_id


def steps_done(client: SyncPrefectClient, run_id: UUID) -> list[tuple[str, dt.datetime]]:
    """Return the message that each step of the run has logged, and when."""
    lines = log_lines(client, run_id)
    return [(each.message, each.timestamp) for each in lines if each.message.startswith("step ")]


def attempts(client: SyncPrefectClient, run_id: UUID) -> list[tuple[str, int]]:
    """Return the state and the number of attempts of each task run."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    found: list[tuple[str, int]] = []
    while page := client.read_task_runs(flow_run_filter=of_run, limit=_PAGE, offset=len(found)):
        found.extend((str(each.state_name), each.run_count) for each in page)
    return found


def completions(client: SyncPrefectClient, run_id: UUID) -> int:
    """Return how many events say that a task run of the run has completed."""
    chosen = {
        "any_resource": {"id": [f"prefect.flow-run.{run_id}"]},
        "event": {"name": ["prefect.task-run.Completed"]},
    }
    answer = client.request("POST", "/events/filter", json={"filter": chosen, "limit": 1})
    return int(answer.json()["total"])


def end_long_run(server: Server, run_id: UUID, began: dt.datetime, over: dt.datetime) -> int:
    """End the long run, and return the number of its steps.

    Fails unless each step ran once, and steps ran before, during and after the change.
    """
    with connected(server.kubectl) as client:
        eventually(
            "a step is done after the change",
            lambda: any(at > over for _, at in steps_done(client, run_id)),
            every=2,
        )
        tell(client, run_id, "over")
        ended = final(client, client.read_flow_run(run_id))
        assert ended.state is not None
        assert ended.state.is_completed(), ended.state
        assert ended.run_count == 1
        # Task runs, their events and logs arrive later than the final state of the run.
        eventually(
            "the run counts its steps", lambda: "steps:" in " ".join(messages(client, run_id))
        )
        (steps,) = (int(line.split()[1]) for line in messages(client, run_id) if "steps:" in line)
        eventually(
            "each step has completed in its first attempt",
            lambda: attempts(client, run_id) == [("Completed", 1)] * steps,
            every=2,
        )
        wanted = Counter(f"step {number} is done" for number in range(steps))
        eventually(
            "each step is logged once",
            lambda: Counter(line for line, _ in steps_done(client, run_id)) == wanted,
            every=2,
        )
        eventually("each step's event is kept", lambda: completions(client, run_id) == steps)
        moments = [at for _, at in steps_done(client, run_id)]
    assert min(moments) < began
    assert any(began < at < over for at in moments)
    assert max(moments) > over
    return steps


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def refused_downgrades(server: Server, older: str, downgrade: str) -> str:
    """Try downgrades that would lose data, and return the Helm revision with the older image."""
    server.upgrade(f"--set-string=image.tag={older}", wait=False)
    revision = str(json.loads(server.helm("list", "--output=json", wait=False))[0]["revision"])
    eventually(
        "the older image explains how to downgrade the database", lambda: explains_downgrade(server)
    )
    eventually("the status shows the last lines of the Job's log", lambda: shows_log(server))
    assert version(server) == pinned.__version__, "the newer pods must keep running"

    hold_event(server)
    server.upgrade(downgrade, wait=False)
    eventually("the Job names the rows that would be lost", lambda: names_lost_rows(server))
    assert rows(server).keys() >= DROPPED, "the database must not be migrated"
    return revision


@pytest.fixture(params=["ha", pytest.param("single", marks=pytest.mark.whole)])
def upgraded(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Server:
    """Return the server in mode ha or in mode single."""
    return server if request.param == "ha" else single_server(server, tmp_path / "single.yaml")


@pytest.mark.timeout(1200)  # builds an image, and rolls out the server four times
def test_a_downgrade_and_an_upgrade_lose_no_data_and_end_no_run(
    upgraded: Server, older: Future[str], record_property: Callable[[str, object], None]
) -> None:
    server, newest = upgraded, image(upgraded).rpartition(":")[2]
    with connected(server.kubectl) as client:
        assert run_etl(client, "2013-05-01").state_name == "Completed"
        Secret(value="kept through it all").save("upgrade-test", overwrite=True)
    assert version(server) == pinned.__version__

    older_tag = older.result()

    run_id, before, began, counts = begin_long_run(server), kept(server), now(), rows(server)
    downgrade = f"--set-string=image.tag={newest},migrations.revision={REVISION}"
    may_lose = f"--set=migrations.mayLose={{{','.join(DROPPED)}}}"
    if server.mode == "ha":
        revision = refused_downgrades(server, older_tag, downgrade)
        server.upgrade(downgrade, may_lose)
        server.helm("rollback", "prefect-server", revision)
    else:
        server.upgrade(downgrade, may_lose)
        server.upgrade(
            f"--set-string=image.tag={older_tag},migrations.revision=",
            "--set=migrations.mayLose=null",
        )

    over = now()
    assert version(server) == VERSION
    with connected(server.kubectl) as client:
        etl = start_etl(client, "2013-05-02")
    steps = [end_long_run(server, run_id, began, over)]
    after = kept(server)
    record_property("rows of every table before and after the downgrade", (counts, rows(server)))
    assert lost(before, after) == {}
    assert counts.keys() - rows(server).keys() == DROPPED

    with connected(server.kubectl) as client:
        assert final(client, etl).state_name == "Completed"
    run_id, before, began, counts = begin_long_run(server), kept(server), now(), rows(server)
    server.upgrade(f"--set-string=image.tag={newest},migrations.revision=")

    over = now()
    assert version(server) == pinned.__version__
    steps.append(end_long_run(server, run_id, began, over))
    record_property("rows of every table before and after the upgrade", (counts, rows(server)))
    record_property("steps of the active run during each change, each of which ran once", steps)
    assert lost(before, kept(server)) == {}
    with connected(server.kubectl) as client:
        block = client.read_block_document_by_name("upgrade-test", "secret", include_secrets=True)
    assert block.data == {"value": "kept through it all"}
