"""Worker, reaper, configuration and release test do their work with tokens, and nothing else."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import websockets
import yaml
from prefect.client.schemas.worker_channel import WorkerHelloFrame, WorkerHelloPayload
from prefect.workers.process import ProcessWorker
from prefect_kubernetes.worker import KubernetesWorker  # type: ignore[import-untyped]

from prefect_platform.polling import wait_until
from prefect_platform.run_identity.rules import RELEASE_TEST_ENTRYPOINT
from tests.integration.run_identity.conftest import (
    INTRUDED,
    OUTSIDE,
    Objects,
    World,
    create_run,
    create_task,
)
from tests.integration.run_identity.test_web_sockets import open_socket, received
from tests.support import servers

_POOL = "parts"
_WITHIN = 120.0
_FILES = {
    "platform.yaml": """
variables:
  declared: {value: 1}
concurrency_limits:
  declared: {limit: 5}
tag_concurrency_limits:
  declared: 3
work_pools:
  declared:
    concurrency_limit: 2
    queues: {default: {priority: 3}, nightly: {priority: 1}, dropped: {priority: 2}}
    grants: {variables: [declared]}
blocks:
  webhook/declared:
    url: {secret: {name: alerts, key: url}}
  email/declared:
    host: smtp.example.org
    sender: us@example.org
    recipients: [them@example.org]
alerts:
  channels:
    ops: {type: slack, url: {secret: {name: alerts, key: url}}}
  severities: {critical: [ops]}
automations:
  declared:
    trigger: {type: event, expect: [never]}
    actions: [{type: call-webhook, block: webhook/declared}]
""",
    "prefect.yaml": """
deployments:
  - name: declared
    entrypoint: hello.py:hello
    pull: [{prefect.deployments.steps.set_working_directory: {directory: /opt/prefect}}]
    work_pool: {name: declared, work_queue_name: nightly}
    schedules: [{slug: morning, cron: "0 6 * * *"}]
""",
    "hello.py": "from prefect import flow\n\n@flow\ndef hello() -> None: ...\n",
    "secrets/alerts/url": "https://hooks.example.org",
    "templates/declared.json": json.dumps(
        {"job_configuration": {"command": "x"}, "variables": {"type": "object"}}
    ),
}
_CHANGED = {
    "platform.yaml": """
variables:
  declared: {value: 2}
concurrency_limits:
  declared: {limit: 6}
tag_concurrency_limits:
  declared: 4
work_pools:
  declared:
    concurrency_limit: 3
    queues: {default: {priority: 1}, nightly: {priority: 2}}
    grants: {concurrency_limits: [declared]}
blocks:
  webhook/declared:
    url: {secret: {name: alerts, key: url}}
    method: PUT
automations:
  declared:
    trigger: {type: event, expect: [changed]}
    actions: [{type: call-webhook, block: webhook/declared}]
""",
    "prefect.yaml": _FILES["prefect.yaml"].replace('"0 6', '"0 7'),
}
_OUTSIDE = """
from prefect import flow, task

@task(persist_result=True)
def add_one(number: int) -> int:
    return number + 1

@flow(log_prints=True)
def outside() -> None:
    print(add_one(1))
"""
_NOTHING = {"platform.yaml": "{}\n", "prefect.yaml": "deployments: []\n"}


@pytest.fixture(scope="module")
def deployment(world: World, ids: Objects) -> str:
    """Create the worker's pool and a deployment in it."""
    template = KubernetesWorker.get_default_base_job_template()
    template["variables"]["properties"]["namespace"]["default"] = "flows"
    body = {"name": _POOL, "type": "kubernetes", "base_job_template": template}
    world.api("POST", "/work_pools/", body)
    body = {"name": _POOL, "flow_id": ids.flow, "work_pool_name": _POOL, "entrypoint": "x.py:x"}
    made: str = world.api("POST", "/deployments/", body)["id"]
    return made


def _environment(world: World, part: str, directory: Path, **more: str) -> dict[str, str]:
    (directory / "token").write_text(world.token_of(part))
    return servers.clean_environment(
        directory,
        KUBECONFIG=str(world.kubectl.kubeconfig),
        PREFECT_API_URL=world.url,
        PREFECT_PLUGINS_ENABLED="true",
        PREFECT_PLUGINS_ALLOW="pod-token",
        POD_TOKEN_FILE=str(directory / "token"),
        **more,
    )


def _program(
    world: World, part: str, directory: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the program of a part's pod; none of its requests may be refused."""
    before = len(_refusals(world, part))
    ended = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=directory,
        env=_environment(world, part, directory),
        capture_output=True,
        text=True,
        check=False,
    )
    assert _refusals(world, part)[before:] == [], ended.stderr
    return ended


def _job(name: str, run: object) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "run", "image": "flows"}]}
    labels = {"prefect.io/flow-run-id": str(run)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "flows", "labels": labels},
        "spec": {"template": {"spec": pod}},
    }


def _refusals(world: World, part: str) -> list[str]:
    lines = world.log.read_text().splitlines()
    return [each for each in lines if f" of the {part}" in each and "run_identity" in each]


@contextmanager
def _worker(world: World, directory: Path) -> Iterator[Path]:
    template = world.api("GET", f"/work_pools/{_POOL}")["base_job_template"]
    (directory / "template.json").write_text(json.dumps(template))
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect_platform.worker.kubernetes_worker"),
                *("--name=parts", f"--pool={_POOL}", "--max-starts=3"),
                f"--base-job-template={directory / 'template.json'}",
            ],
            env=_environment(
                world,
                "worker",
                directory,
                PREFECT_WORKER_QUERY_SECONDS="10000",
                PREFECT_WORKER_WEBSERVER_PORT=str(servers.free_ports(1)[0]),
                PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES="flows",
            ),
            stdout=output,
            stderr=output,
        )
    try:
        yield log
    finally:
        process.kill()
        process.wait()


def _pod_of(world: World, run: str) -> str:
    """Create a pod with the labels of a run, as its Job does, and return its id."""
    world.kubectl.apply(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": "observed",
                    "namespace": "flows",
                    "labels": {
                        "prefect.io/flow-run-id": run,
                        "prefect.io/flow-run-name": "observed",
                    },
                },
                "spec": {"containers": [{"name": "prefect-job", "image": "flows"}]},
            }
        )
    )
    return world.kubectl(
        *("get", "pod", "observed", "--namespace=flows", "--output=jsonpath={.metadata.uid}")
    )


def _events(world: World, resource: str) -> list[str]:
    chosen = {
        "occurred": {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"},
        "resource": {"id_prefix": [resource]},
    }
    return [
        each["event"] for each in world.api("POST", "/events/filter", {"filter": chosen})["events"]
    ]


def test_a_worker_starts_runs_and_reports_their_pods(
    world: World, deployment: str, tmp_path: Path
) -> None:
    def has_job(run: str) -> bool:
        return world.api("GET", f"/flow_runs/{run}")["infrastructure_pid"] is not None

    run = create_run(world, deployment)
    before = len(_refusals(world, "worker"))
    with _worker(world, tmp_path) as log:
        assert wait_until(lambda: has_job(run), _WITHIN), log.read_text()
        reported = create_run(world, deployment)  # long before the worker polls again
        assert wait_until(lambda: has_job(reported), _WITHIN), log.read_text()
        pod = f"prefect.kubernetes.pod.{_pod_of(world, run)}"
        assert wait_until(lambda: _events(world, pod), _WITHIN), log.read_text()
        (online,) = world.api("POST", f"/work_pools/{_POOL}/workers/filter", {})

    assert online["status"] == "ONLINE"
    assert world.api("GET", f"/flow_runs/{run}")["state_type"] == "PENDING"
    assert _events(world, "prefect.worker.kubernetes")
    assert "submitted" in log.read_text()
    assert _refusals(world, "worker")[before:] == []


def test_a_worker_opens_the_channel_of_its_pool_only(world: World, deployment: str) -> None:
    assert deployment

    async def opened(pool: str) -> Any:  # noqa: ANN401 - JSON
        path = f"/work_pools/{pool}/workers/connect"
        async with open_socket(world, path, world.token_of("worker")) as channel:
            return await received(channel)

    assert asyncio.run(opened(_POOL))["type"] == "auth_success"
    with pytest.raises(websockets.ConnectionClosed):
        asyncio.run(opened("other"))


@pytest.mark.parametrize("pool", INTRUDED)
def test_a_worker_neither_creates_its_pool_nor_chooses_its_template(
    pool: str, world: World
) -> None:
    """The template could name a block as that of the results, which would grant the block."""
    if pool == "empty":
        world.api("POST", "/work_pools/", {"name": pool, "type": "kubernetes"})
    hello = WorkerHelloFrame(
        id=uuid4(),
        sent_at=datetime.now(UTC),
        type="worker.hello.v1",
        payload=WorkerHelloPayload(
            consumer_id=uuid4(),
            worker_name="intruder",
            worker_type="kubernetes",
            heartbeat_interval_seconds=30,
            supported_channel_versions=["work_pool_worker_channel.v1"],
            requested_capabilities=["worker_heartbeat.v1", "work_pool_snapshot.v1"],
            create_pool_if_not_found=True,
            default_base_job_template={
                "job_configuration": {"command": "x"},
                "variables": {"type": "object"},
            },
        ),
    )

    async def introduce() -> Any:  # noqa: ANN401 - JSON
        path = f"/work_pools/{pool}/workers/connect"
        async with open_socket(world, path, f"{pool}:{OUTSIDE[1]}") as channel:
            assert (await received(channel))["type"] == "auth_success"
            await channel.send(hello.model_dump_json())
            with suppress(websockets.ConnectionClosed):
                return await received(channel)

    answer = asyncio.run(introduce())
    found = world.people.get(f"/work_pools/{pool}")

    if pool == "empty":
        assert answer["type"] == "worker.ready.v1"
        assert found.json()["base_job_template"] == {}
    else:
        assert found.status_code == httpx.codes.NOT_FOUND


def test_a_worker_does_not_own_a_run_that_another_process_serves(
    world: World, ids: Objects, deployment: str
) -> None:
    served = world.api("POST", "/deployments/", {"name": "served", "flow_id": ids.flow})["id"]
    parent = create_run(world, deployment)
    task = create_task(world, parent, "child")
    child = create_run(world, served, parent_task_run_id=task)
    inline = world.api("POST", "/flow_runs/", {"flow_id": ids.flow, "parent_task_run_id": task})
    with world.part("worker") as worker:
        answers = [
            worker.get(f"/flow_runs/{run}").status_code for run in (parent, inline["id"], child)
        ]

    assert answers == [httpx.codes.OK, httpx.codes.OK, httpx.codes.FORBIDDEN]


def test_a_worker_does_not_restart_a_run_that_has_ended(world: World, deployment: str) -> None:
    run = create_run(world, deployment, state={"type": "COMPLETED"})
    forced = {"state": {"type": "RUNNING"}, "force": True}
    with world.part("worker") as worker:
        answer = worker.post(f"/flow_runs/{run}/set_state", json=forced)

    assert answer.status_code == httpx.codes.FORBIDDEN


_WORKER_MAY_NOT: dict[str, Callable[[Objects], tuple[str, str, object]]] = {
    "read a run of another pool": lambda o: ("GET", f"/flow_runs/{o.own}", None),
    "cancel a run of another pool": lambda o: (
        "POST",
        f"/flow_runs/{o.own}/set_state",
        {"state": {"type": "CANCELLED"}, "force": True},
    ),
    "take the runs of another pool": lambda _: (
        "POST",
        "/work_pools/other/get_scheduled_flow_runs",
        {},
    ),
    "pass as a worker of another pool": lambda _: (
        "POST",
        "/work_pools/other/workers/heartbeat",
        {"name": "parts"},
    ),
    "change its pool": lambda _: ("PATCH", "/work_pools/parts", {"is_paused": True}),
    "read a block": lambda o: ("GET", f"/block_documents/{o.block}?include_secrets=true", None),
    "read a variable": lambda _: ("GET", "/variables/name/theirs", None),
    "search all runs": lambda _: ("POST", "/flow_runs/filter", {}),
    "search all events": lambda _: ("POST", "/events/filter", {"filter": {}}),
    "search the events of runs": lambda o: (
        "POST",
        "/events/filter",
        {"filter": {"resource": {"id": [f"prefect.flow-run.{o.own}"]}}},
    ),
    "read the states of a run of another pool": lambda o: (
        "GET",
        f"/flow_run_states/?flow_run_id={o.own}",
        None,
    ),
    "create a deployment": lambda o: ("POST", "/deployments/", {"name": "x", "flow_id": o.flow}),
    "start a deployment": lambda o: (
        "POST",
        f"/deployments/{o.deployment}/create_flow_run",
        {},
    ),
    "create an automation": lambda _: ("POST", "/automations/", {}),
    "report something about a flow of another pool": lambda o: (
        "POST",
        "/events",
        [
            {
                "occurred": "2026-01-01T00:00:00Z",
                "event": "etl.finished",
                "resource": {"prefect.resource.id": f"prefect.flow.{o.flow}"},
            }
        ],
    ),
    "grant itself something": lambda _: (
        "POST",
        "/variables/",
        {"name": "prefect_platform_grants_parts", "value": {}},
    ),
}
_OTHERS_MAY_NOT: dict[str, dict[str, Callable[[Objects], tuple[str, str, object]]]] = {
    "reaper": {
        "complete a run": lambda o: (
            "POST",
            f"/flow_runs/{o.own}/set_state",
            {"state": {"type": "COMPLETED"}},
        ),
        "end a run by force": lambda o: (
            "POST",
            f"/flow_runs/{o.own}/set_state",
            {"state": {"type": "CRASHED"}, "force": True},
        ),
        "execute a run again that has begun": lambda o: (
            "POST",
            f"/flow_runs/{o.own}/set_state",
            {"state": {"type": "SCHEDULED"}},
        ),
        "delete a run": lambda o: ("DELETE", f"/flow_runs/{o.own}", None),
        "report a state of a run": lambda o: (
            "POST",
            "/events",
            [
                {
                    "occurred": "2026-01-01T00:00:00Z",
                    "event": "prefect.flow-run.Failed",
                    "resource": {"prefect.resource.id": f"prefect.flow-run.{o.own}"},
                }
            ],
        ),
        "read a block": lambda o: ("GET", f"/block_documents/{o.block}", None),
        "start a deployment": lambda o: (
            "POST",
            f"/deployments/{o.deployment}/create_flow_run",
            {},
        ),
    },
    "configuration": {
        "cancel a run": lambda o: (
            "POST",
            f"/flow_runs/{o.own}/set_state",
            {"state": {"type": "CANCELLED"}},
        ),
        "start a deployment": lambda o: (
            "POST",
            f"/deployments/{o.deployment}/create_flow_run",
            {},
        ),
        "read a run": lambda o: ("GET", f"/flow_runs/{o.own}", None),
        "read logs": lambda _: ("POST", "/logs/filter", {}),
        "send events": lambda _: ("POST", "/events", []),
    },
    "release-test": {
        "deploy another program": lambda o: (
            "POST",
            "/deployments/",
            {"name": "default", "flow_id": o.flow, "entrypoint": RELEASE_TEST_ENTRYPOINT},
        ),
        "start another deployment": lambda o: (
            "POST",
            f"/deployments/{o.deployment}/create_flow_run",
            {},
        ),
        "cancel another run": lambda o: (
            "POST",
            f"/flow_runs/{o.own}/set_state",
            {"state": {"type": "CANCELLING"}},
        ),
        "read all logs": lambda _: ("POST", "/logs/filter", {}),
        "end a run": lambda o: (
            "POST",
            f"/flow_runs/{o.own}/set_state",
            {"state": {"type": "CRASHED"}},
        ),
        "read a block": lambda o: ("GET", f"/block_documents/{o.block}", None),
        "change a pool": lambda _: ("PATCH", "/work_pools/default", {"is_paused": True}),
    },
}


@pytest.mark.parametrize(
    ("part", "what"),
    [
        *(("worker", what) for what in _WORKER_MAY_NOT),
        *((part, what) for part, table in _OTHERS_MAY_NOT.items() for what in table),
    ],
)
def test_a_part_may_not(part: str, what: str, world: World, ids: Objects, deployment: str) -> None:
    assert deployment
    requests = {"worker": _WORKER_MAY_NOT, **_OTHERS_MAY_NOT}[part]
    method, path, body = requests[what](ids)
    with world.part(part) as client:
        answer = client.request(method, path, json=body)

    assert answer.status_code == httpx.codes.FORBIDDEN, answer.text


@contextmanager
def _outside_worker(world: World, directory: Path) -> Iterator[Path]:
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*(sys.executable, "-m", "prefect", "worker", "start"), "--pool=outside"],
            env=servers.clean_environment(
                directory,
                PREFECT_API_URL=world.url,
                PREFECT_API_AUTH_STRING=":".join(OUTSIDE),
                PREFECT_WORKER_QUERY_SECONDS="1",
            ),
            stdout=output,
            stderr=output,
        )
    try:
        yield log
    finally:
        process.terminate()
        process.wait()


def test_a_worker_outside_the_cluster_runs_flows_with_the_password_of_its_pool(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "outside.py").write_text(_OUTSIDE)
    body: dict[str, object] = {
        "name": OUTSIDE[0],
        "type": "process",
        "base_job_template": ProcessWorker.get_default_base_job_template(),
    }
    world.api("POST", "/work_pools/", body)
    flow = world.api("POST", "/flows/", {"name": "outside"})["id"]
    body = {
        "name": "outside",
        "flow_id": flow,
        "work_pool_name": OUTSIDE[0],
        "entrypoint": "outside.py:outside",
        "path": str(tmp_path),
    }
    deployment = world.api("POST", "/deployments/", body)["id"]
    before = len(_refusals(world, "worker"))
    run = create_run(world, deployment)
    with _outside_worker(world, tmp_path) as log:
        assert wait_until(
            lambda: world.api("GET", f"/flow_runs/{run}")["state_type"] == "COMPLETED", _WITHIN
        ), log.read_text()

    assert _refusals(world, "worker")[before:] == []


def test_the_password_of_a_worker_opens_its_pool_only(world: World, ids: Objects) -> None:
    with world.outside() as worker, world.outside("wrong") as wrong, world.outside("") as empty:
        answers = [worker.get(path).status_code for path in ("/version", f"/flow_runs/{ids.own}")]
        pause = worker.patch(f"/work_pools/{OUTSIDE[0]}", json={"is_paused": True}).status_code
        others = [client.get("/version").status_code for client in (wrong, empty)]

    assert answers == [httpx.codes.OK, httpx.codes.FORBIDDEN]
    assert pause == httpx.codes.FORBIDDEN
    assert others == [httpx.codes.UNAUTHORIZED] * 2


def test_the_reaper_ends_gives_back_or_names_a_run_and_frees_the_slot_of_one_that_has_ended(
    world: World, deployment: str, tmp_path: Path
) -> None:
    taken = create_run(world, deployment, state={"type": "PENDING"})
    run = create_run(world, deployment, state={"type": "RUNNING"})
    world.api("PATCH", f"/flow_runs/{run}", {"infrastructure_pid": "flows:gone"})
    silent = create_run(world, deployment, state={"type": "RUNNING"})
    world.kubectl("create", "--filename=-", stdin=json.dumps(_job("silent", silent)))
    ended = create_run(world, deployment, state={"type": "COMPLETED"})
    slot = {"names": ["parts"], "task_run_id": create_task(world, ended, "held")}
    world.api("POST", "/concurrency_limits/", {"tag": "parts", "concurrency_limit": 1})
    world.api("POST", "/concurrency_limits/increment", slot)
    zero = (f"--{period}=0" for period in ("grace", "submission", "silence"))
    hour = (f"--{each}=3600" for each in ("unstartable", "lost-node", "hooks", "succeeded-job-ttl"))
    program = ("prefect_platform.reaper.reaper", *zero, *hour, f"{_POOL}=flows")
    first, second = (_program(world, "reaper", tmp_path, *program) for _ in range(2))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert world.api("GET", f"/flow_runs/{run}")["state_type"] == "CRASHED"
    assert world.api("GET", f"/flow_runs/{taken}")["state_type"] == "SCHEDULED"
    assert f"({silent}) is Running, and has sent no heartbeat" in first.stderr
    assert world.api("GET", f"/flow_runs/{silent}")["state_type"] == "RUNNING"
    assert world.api("GET", "/concurrency_limits/tag/parts")["active_slots"] == []


def test_the_configuration_applies_every_kind_and_prunes_it(world: World, tmp_path: Path) -> None:
    def apply(files: dict[str, str]) -> str:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / "checksum").write_text("1")
        ended = _program(
            *(world, "configuration", tmp_path, "prefect_platform.configuration"),
            *("--file=platform.yaml", "--deployments=prefect.yaml", "--secrets=secrets"),
            *("--templates=templates", "--release=workers/prefect-worker", "--prune"),
            "--checksum=1",
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def declared() -> int:
        found = world.api("GET", "/variables/name/declared")["value"]
        assert isinstance(found, int)
        return found

    apply(_FILES)
    assert declared() == 1
    assert "Nothing to change" in apply(_FILES)
    apply(_CHANGED)
    assert declared() == 2
    apply(_NOTHING)
    assert world.people.get("/variables/name/declared").status_code == httpx.codes.NOT_FOUND
    assert world.people.get("/work_pools/declared").status_code == httpx.codes.NOT_FOUND


def test_the_release_test_cancels_its_run_if_no_worker_starts_it(
    world: World, deployment: str, tmp_path: Path
) -> None:
    assert deployment
    ended = _program(
        *(world, "release-test", tmp_path, "prefect_platform.worker.helm_test"),
        *("--timeout=1", "--worker=workers/worker", "--jobs=flows", _POOL),
    )

    assert ended.returncode == 1
    assert "Gave up waiting for the flow run" in ended.stderr
    runs = world.api(
        "POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["prefect-platform-test"]}}}
    )
    assert [each["state_type"] for each in runs] == ["CANCELLED"]
