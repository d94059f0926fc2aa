"""A run reads and changes its own objects, and nothing else without a grant."""

import sys
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest

from tests.integration.run_identity.conftest import EVERYTHING, Objects, World, grant

Request = tuple[str, str, object]
Of = Callable[[Objects], Request]

_RUNNING = {"state": {"type": "RUNNING"}}
_HYDRATED = {"__prefect_kind": "workspace_variable", "variable_name": "theirs"}
_CANCELLING = {"state": {"type": "CANCELLING"}, "force": True}


def _log(run: object) -> dict[str, object]:
    timestamp = "2026-01-01T00:00:00Z"
    return {
        "name": "flow",
        "level": 20,
        "message": "hello",
        "timestamp": timestamp,
        "flow_run_id": run,
    }


def _event(name: str, resource: str, *related: str, payload: object = None) -> dict[str, object]:
    return {
        "id": str(uuid4()),
        "occurred": "2026-01-01T00:00:00Z",
        "event": name,
        "resource": {"prefect.resource.id": resource},
        "related": [
            {"prefect.resource.id": each, "prefect.resource.role": each.split(".")[1]}
            for each in related
        ],
        "payload": payload or {},
    }


_OWN: dict[str, Of] = {
    "read itself": lambda o: ("GET", f"/flow_runs/{o.own}", None),
    "read its subflow run": lambda o: ("GET", f"/flow_runs/{o.child}", None),
    "set its state": lambda o: ("POST", f"/flow_runs/{o.own}/set_state", _RUNNING),
    "set the state of its subflow run": lambda o: (
        "POST",
        f"/flow_runs/{o.child}/set_state",
        _RUNNING,
    ),
    "change its name": lambda o: ("PATCH", f"/flow_runs/{o.own}", {"name": "mine"}),
    "add labels": lambda o: ("PATCH", f"/flow_runs/{o.own}/labels", {"a": "b"}),
    "search its subflow runs": lambda o: (
        "POST",
        "/flow_runs/filter",
        {"flow_runs": {"parent_task_run_id": {"any_": [o.own_task]}}},
    ),
    "create a task run": lambda o: (
        "POST",
        "/task_runs/",
        {"flow_run_id": o.own, "task_key": "new", "dynamic_key": "0"},
    ),
    "read its task run": lambda o: ("GET", f"/task_runs/{o.own_task}", None),
    "start a subflow run": lambda o: (
        "POST",
        "/flow_runs/",
        {"flow_id": o.flow, "parent_task_run_id": o.own_task},
    ),
    "log": lambda o: ("POST", "/logs/", [_log(o.own), _log(o.child)]),
    "read its log": lambda o: (
        "POST",
        "/logs/filter",
        {"logs": {"flow_run_id": {"any_": [o.own]}}},
    ),
    "create an artifact": lambda o: ("POST", "/artifacts/", {"flow_run_id": o.own, "data": 1}),
    "change its artifact": lambda o: ("PATCH", f"/artifacts/{o.own_artifact}", {"data": 2}),
    "send an event of its own": lambda o: (
        "POST",
        "/events",
        [_event("order.arrived", "order.1", f"prefect.flow-run.{o.own}", f"prefect.flow.{o.flow}")],
    ),
    "send its heartbeat": lambda o: (
        "POST",
        "/events",
        [_event("prefect.flow-run.heartbeat", f"prefect.flow-run.{o.own}")],
    ),
    "send an event of a task of its own": lambda o: (
        "POST",
        "/events",
        [
            _event(
                "order.arrived",
                "order.1",
                f"prefect.task-run.{o.own_task}",
                f"prefect.flow-run.{o.own}",
                f"prefect.concurrency-limit.{o.limit}",
            )
        ],
    ),
    "report a task with a state of its own name": lambda o: (
        "POST",
        "/events",
        [
            _event(
                "prefect.task-run.Done with 3",
                f"prefect.task-run.{uuid4()}",
                f"prefect.flow-run.{o.own}",
                payload={
                    "task_run": {"name": "t", "task_key": "t", "dynamic_key": "1"},
                    "validated_state": {"type": "COMPLETED", "name": "Done with 3"},
                },
            )
        ],
    ),
    "wait for a rate": lambda _: (
        "POST",
        "/v2/concurrency_limits/increment",
        {"names": ["any"], "slots": 1, "mode": "rate_limit"},
    ),
    "read its deployment": lambda o: ("GET", f"/deployments/{o.deployment}", None),
    "read its work pool": lambda _: ("GET", "/work_pools/default", None),
    "read its work queue": lambda o: ("GET", f"/work_queues/{o.queue}", None),
    "take slots of a tag without a limit": lambda _: (
        "POST",
        "/v2/concurrency_limits/increment-with-lease",
        {"names": ["tag:any"], "slots": 1},
    ),
}

_FOREIGN: dict[str, Of] = {
    "read another run": lambda o: ("GET", f"/flow_runs/{o.foreign}", None),
    "read a run of another pool": lambda o: ("GET", f"/flow_runs/{o.other_pool}", None),
    "read another's graph": lambda o: ("GET", f"/flow_runs/{o.foreign}/graph-v2", None),
    "cancel another run": lambda o: ("POST", f"/flow_runs/{o.foreign}/set_state", _CANCELLING),
    "cancel many runs": lambda o: (
        "POST",
        "/flow_runs/bulk_set_state",
        {"flow_runs": {"id": {"any_": [o.foreign]}}, **_CANCELLING},
    ),
    "delete another run": lambda o: ("DELETE", f"/flow_runs/{o.foreign}", None),
    "delete itself": lambda o: ("DELETE", f"/flow_runs/{o.own}", None),
    "rename another run": lambda o: ("PATCH", f"/flow_runs/{o.foreign}", {"name": "x"}),
    "take the Job of another run": lambda o: (
        "PATCH",
        f"/flow_runs/{o.own}",
        {"infrastructure_pid": "cluster:flows:job"},
    ),
    "change its own Job": lambda o: (
        "PATCH",
        f"/flow_runs/{o.own}",
        {"job_variables": {"image": "evil"}},
    ),
    "read all runs": lambda _: ("POST", "/flow_runs/filter", {}),
    "read all runs by an empty list": lambda _: (
        "POST",
        "/flow_runs/filter",
        {"flow_runs": {"id": {"any_": []}}},
    ),
    "read all runs by an alternative": lambda o: (
        "POST",
        "/flow_runs/filter",
        {"flow_runs": {"operator": "or_", "id": {"any_": [o.own]}, "tags": {"is_null_": True}}},
    ),
    "read all runs by an alternative of one field": lambda o: (
        "POST",
        "/flow_runs/filter",
        {
            "flow_runs": {
                "parent_task_run_id": {
                    "any_": [o.own_task],
                    "operator": "or_",
                    "is_null_": True,
                }
            }
        },
    ),
    "read all task runs by an alternative of one field": lambda o: (
        "POST",
        "/task_runs/filter",
        {
            "flow_runs": {
                "parent_task_run_id": {"any_": [o.own_task], "operator": "or_", "is_null_": True}
            }
        },
    ),
    "read a variable by resuming": lambda o: (
        "POST",
        f"/flow_runs/{o.own}/resume",
        {"run_input": {"x": _HYDRATED}},
    ),
    "give a task to another process": lambda o: (
        "POST",
        "/task_runs/",
        {
            "flow_run_id": o.own,
            "task_key": "theirs",
            "dynamic_key": "1",
            "state": {"type": "SCHEDULED", "state_details": {"deferred": True}},
        },
    ),
    "share a cached result": lambda o: (
        "POST",
        f"/flow_runs/{o.child}/set_state",
        {"state": {"type": "COMPLETED", "state_details": {"cache_key": "theirs"}}},
    ),
    "forget its Job": lambda o: ("PATCH", f"/flow_runs/{o.own}", {"infrastructure_pid": None}),
    "read another run beside its own": lambda o: (
        "POST",
        "/flow_runs/filter",
        {"flow_runs": {"id": {"any_": [o.own, o.foreign]}}},
    ),
    "read another's subflow runs": lambda o: (
        "POST",
        "/flow_runs/filter",
        {"flow_runs": {"parent_task_run_id": {"any_": [o.foreign_task]}}},
    ),
    "read another's input": lambda o: ("GET", f"/flow_runs/{o.foreign}/input/answer", None),
    "answer for another run": lambda o: (
        "POST",
        f"/flow_runs/{o.foreign}/input",
        {"key": "answer", "value": "yes"},
    ),
    "resume another run": lambda o: ("POST", f"/flow_runs/{o.foreign}/resume", {}),
    "start a run of its flow": lambda o: ("POST", "/flow_runs/", {"flow_id": o.flow}),
    "start a subflow run of another": lambda o: (
        "POST",
        "/flow_runs/",
        {"flow_id": o.flow, "parent_task_run_id": o.foreign_task},
    ),
    "start a subflow run in a work pool": lambda o: (
        "POST",
        "/flow_runs/",
        {"flow_id": o.flow, "parent_task_run_id": o.own_task, "work_pool_name": "other"},
    ),
    "start a subflow run of a deployment": lambda o: (
        "POST",
        "/flow_runs/",
        {
            "flow_id": o.flow,
            "parent_task_run_id": o.own_task,
            "deployment_id": o.other_deployment,
            "job_variables": {"image": "evil"},
        },
    ),
    "read a run by its idempotency key": lambda o: (
        "POST",
        "/flow_runs/",
        {"flow_id": o.flow, "parent_task_run_id": o.own_task, "idempotency_key": "theirs"},
    ),
    "create another's task run": lambda o: (
        "POST",
        "/task_runs/",
        {"flow_run_id": o.foreign, "task_key": "new", "dynamic_key": "0"},
    ),
    "create a task run of no flow run": lambda _: (
        "POST",
        "/task_runs/",
        {"task_key": "new", "dynamic_key": "0"},
    ),
    "read another's task run": lambda o: ("GET", f"/task_runs/{o.foreign_task}", None),
    "end another's task run": lambda o: (
        "POST",
        f"/task_runs/{o.foreign_task}/set_state",
        _RUNNING,
    ),
    "log as another run": lambda o: ("POST", "/logs/", [_log(o.own), _log(o.foreign)]),
    "log as no run": lambda _: ("POST", "/logs/", [_log(None)]),
    "log as another's task run": lambda o: (
        "POST",
        "/logs/",
        [{**_log(o.own), "task_run_id": o.foreign_task}],
    ),
    "create an artifact of another's task run": lambda o: (
        "POST",
        "/artifacts/",
        {"flow_run_id": o.own, "task_run_id": o.foreign_task, "data": 1},
    ),
    "take slots for another run": lambda o: (
        "POST",
        "/v2/concurrency_limits/increment-with-lease",
        {"names": ["tag:any"], "slots": 1, "holder": {"type": "flow_run", "id": o.foreign}},
    ),
    "read another's log": lambda o: (
        "POST",
        "/logs/filter",
        {"logs": {"flow_run_id": {"any_": [o.foreign]}}},
    ),
    "read all logs": lambda _: ("POST", "/logs/filter", {}),
    "download another's log": lambda o: ("GET", f"/flow_runs/{o.foreign}/logs/download", None),
    "read another's artifact": lambda o: ("GET", f"/artifacts/{o.foreign_artifact}", None),
    "change another's artifact": lambda o: (
        "PATCH",
        f"/artifacts/{o.foreign_artifact}",
        {"data": "forged"},
    ),
    "create another's artifact": lambda o: (
        "POST",
        "/artifacts/",
        {"flow_run_id": o.foreign, "data": 1},
    ),
    "delete its artifact": lambda o: ("DELETE", f"/artifacts/{o.own_artifact}", None),
    "report that another run crashed": lambda o: (
        "POST",
        "/events",
        [_event("prefect.flow-run.Crashed", f"prefect.flow-run.{o.foreign}")],
    ),
    "report that it crashed": lambda o: (
        "POST",
        "/events",
        [_event("prefect.flow-run.Crashed", f"prefect.flow-run.{o.own}")],
    ),
    "send another's heartbeat": lambda o: (
        "POST",
        "/events",
        [_event("prefect.flow-run.heartbeat", f"prefect.flow-run.{o.foreign}")],
    ),
    "name another run in an event": lambda o: (
        "POST",
        "/events",
        [_event("order.arrived", "order.1", f"prefect.flow-run.{o.foreign}")],
    ),
    "name another deployment in an event": lambda o: (
        "POST",
        "/events",
        [
            _event(
                "order.arrived",
                "order.1",
                f"prefect.flow-run.{o.own}",
                f"prefect.deployment.{o.other_deployment}",
            )
        ],
    ),
    "report a pool": lambda _: (
        "POST",
        "/events",
        [_event("prefect.work-pool.not-ready", f"prefect.work-pool.{uuid4()}")],
    ),
    "move another's task run to itself by an event": lambda o: (
        "POST",
        "/events",
        [
            _event(
                "prefect.task-run.Completed",
                f"prefect.task-run.{o.foreign_task}",
                f"prefect.flow-run.{o.own}",
            )
        ],
    ),
    "describe another's task run in an event": lambda o: (
        "POST",
        "/events",
        [
            _event(
                "prefect.task-run.Completed",
                f"prefect.task-run.{uuid4()}",
                f"prefect.flow-run.{o.own}",
                payload={"task_run": {"id": o.foreign_task}},
            )
        ],
    ),
    "send an event that no consumer can read": lambda o: (
        "POST",
        "/events",
        [
            _event(
                "prefect.task-run.Running",
                f"prefect.task-run.{uuid4()}",
                f"prefect.flow-run.{o.own}",
            )
        ],
    ),
    "send an event that cannot be stored": lambda _: (
        "POST",
        "/events",
        [_event("order\0arrived", "order.1")],
    ),
    "send an event with a name that cannot be stored": lambda _: (
        "POST",
        "/events",
        [_event("order.arrived", "x" * 3000)],
    ),
    "report another's artifact": lambda o: (
        "POST",
        "/events",
        [_event("prefect.artifact.updated", f"prefect.artifact.{o.foreign_artifact}")],
    ),
    "name another's task run in an event": lambda o: (
        "POST",
        "/events",
        [_event("order.arrived", "order.1", f"prefect.task-run.{o.foreign_task}")],
    ),
    "read all events": lambda _: ("POST", "/events/filter", {}),
    "read a block": lambda _: (
        "GET",
        "/block_types/slug/secret/block_documents/name/theirs?include_secrets=true",
        None,
    ),
    "read a block by its id": lambda o: (
        "GET",
        f"/block_documents/{o.block}?include_secrets=true",
        None,
    ),
    "read all blocks": lambda _: ("POST", "/block_documents/filter", {"include_secrets": True}),
    "read the blocks of a type": lambda _: (
        "GET",
        "/block_types/slug/secret/block_documents?include_secrets=true",
        None,
    ),
    "change a block": lambda o: (
        "PATCH",
        f"/block_documents/{o.block}",
        {"data": {"value": "forged"}},
    ),
    "delete a block": lambda o: ("DELETE", f"/block_documents/{o.block}", None),
    "create a block": lambda o: (
        "POST",
        "/block_documents/",
        {
            "name": "webhook",
            "data": {"value": "forged"},
            "block_type_id": o.block_type,
            "block_schema_id": o.block_schema,
        },
    ),
    "read a variable": lambda _: ("GET", "/variables/name/theirs", None),
    "read all variables": lambda _: ("POST", "/variables/filter", {}),
    "change a variable": lambda _: ("PATCH", "/variables/name/theirs", {"value": "forged"}),
    "grant itself a block": lambda _: (
        "POST",
        "/variables/",
        {"name": "work_pool_grants_default", "value": {"blocks": ["secret/theirs"]}},
    ),
    "read another deployment": lambda o: ("GET", f"/deployments/{o.other_deployment}", None),
    "read a deployment by its name": lambda _: ("GET", "/deployments/name/ours/other", None),
    "start its own deployment": lambda o: (
        "POST",
        f"/deployments/{o.deployment}/create_flow_run",
        {"parent_task_run_id": o.own_task},
    ),
    "start another deployment": lambda o: (
        "POST",
        f"/deployments/{o.other_deployment}/create_flow_run",
        {"parent_task_run_id": o.own_task},
    ),
    "start a deployment many times": lambda o: (
        "POST",
        f"/deployments/{o.other_deployment}/create_flow_run/bulk",
        [{}],
    ),
    "change a deployment": lambda o: (
        "PATCH",
        f"/deployments/{o.deployment}",
        {"job_variables": {"image": "evil"}},
    ),
    "create a deployment": lambda o: (
        "POST",
        "/deployments/",
        {"name": "evil", "flow_id": o.flow, "work_pool_name": "default"},
    ),
    "pause a deployment": lambda o: (
        "POST",
        f"/deployments/{o.other_deployment}/pause_deployment",
        {},
    ),
    "read another work pool": lambda _: ("GET", "/work_pools/other", None),
    "change its work pool": lambda _: (
        "PATCH",
        "/work_pools/default",
        {"base_job_template": {"job_configuration": {}, "variables": {}}},
    ),
    "create a work pool": lambda _: ("POST", "/work_pools/", {"name": "evil", "type": "process"}),
    "delete a work pool": lambda _: ("DELETE", "/work_pools/other", None),
    "take the scheduled runs": lambda _: (
        "POST",
        "/work_pools/default/get_scheduled_flow_runs",
        {},
    ),
    "read another work queue": lambda o: ("GET", f"/work_queues/{o.other_queue}", None),
    "take slots of a limit": lambda _: (
        "POST",
        "/v2/concurrency_limits/increment-with-lease",
        {"names": ["theirs"], "slots": 1},
    ),
    "take slots without a lease": lambda _: (
        "POST",
        "/v2/concurrency_limits/increment",
        {"names": ["tag:any"], "slots": 1, "mode": "concurrency"},
    ),
    "take slots for a day": lambda _: (
        "POST",
        "/v2/concurrency_limits/increment-with-lease",
        {"names": ["tag:any"], "slots": 1, "lease_duration": 86400},
    ),
    "free the slots of others": lambda _: (
        "POST",
        "/v2/concurrency_limits/decrement",
        {"names": ["theirs"], "slots": 1},
    ),
    "delete a limit": lambda o: ("DELETE", f"/v2/concurrency_limits/{o.limit}", None),
    "create an automation": lambda _: (
        "POST",
        "/automations/",
        {"name": "evil", "trigger": {}, "actions": []},
    ),
    "delete an automation": lambda o: ("DELETE", f"/automations/{o.automation}", None),
    "render a template": lambda _: ("POST", "/templates/validate", "{{ 1 }}"),
    "read the settings": lambda _: ("GET", "/admin/settings", None),
    "change the storage of results": lambda o: (
        "PUT",
        "/admin/storage",
        {"default_result_storage_block_id": o.block},
    ),
    "read the schema of the API": lambda _: ("GET", "/openapi.json", None),
    "read the metrics": lambda _: ("GET", "/metrics", None),
    "use a route that does not exist": lambda _: ("GET", "/nowhere", None),
}


@pytest.fixture(scope="module")
def run(world: World, ids: Objects) -> Iterator[httpx.Client]:
    """Return a client with the token of the pod of the run `own`."""
    with world.run(ids.own) as client:
        yield client


@pytest.mark.parametrize("what", _OWN)
def test_a_run_may(what: str, run: httpx.Client, ids: Objects) -> None:
    method, path, body = _OWN[what](ids)
    answer = run.request(method, path, json=body)

    assert answer.is_success, answer.text


@pytest.mark.parametrize("what", _FOREIGN)
def test_a_run_may_not(what: str, run: httpx.Client, world: World, ids: Objects) -> None:
    method, path, body = _FOREIGN[what](ids)
    answer = run.request(method, path, json=body)
    sys.stdout.write(f"{what:48} {answer.status_code} {answer.json()}\n")

    assert answer.status_code == httpx.codes.FORBIDDEN, answer.text
    assert "of-the-" not in answer.text
    assert f"of flow run {ids.own} with 403" in world.log.read_text()


def test_the_attacks_are_requests_that_people_may_send(world: World, ids: Objects) -> None:
    """Without this, a request that nothing accepts would count as refused."""
    unknown = {"read the metrics", "use a route that does not exist"}
    reads = [each(ids) for what, each in _FOREIGN.items() if what not in unknown]
    refused = {
        f"{method} {path}": answer.status_code
        for method, path, body in reads
        if method == "GET" and (answer := world.people.get(path)).is_error
    }
    assert refused == {f"GET /flow_runs/{ids.foreign}/input/answer": httpx.codes.NOT_FOUND}


def test_a_body_is_read_once(run: httpx.Client, ids: Objects) -> None:
    """What was decided about is what Prefect reads, also if a key is given twice."""
    twice = f'{{"flow_run_id": "{ids.own}", "data": 1, "flow_run_id": "{ids.foreign}"}}'
    answer = run.post("/artifacts/", content=twice, headers={"Content-Type": "application/json"})
    assert answer.status_code == httpx.codes.FORBIDDEN

    other = twice.replace(ids.own, "x").replace(ids.foreign, ids.own).replace("x", ids.foreign)
    made = run.post("/artifacts/", content=other, headers={"Content-Type": "application/json"})
    assert made.json()["flow_run_id"] == ids.own


@pytest.mark.parametrize(
    "body",
    ["{", "[" * 100_000, "\xff", "[]", '{"names": "theirs"}', '{"names": ["a"], "holder": 1}'],
)
def test_a_body_in_another_form_is_refused(body: str, run: httpx.Client) -> None:
    path = "/v2/concurrency_limits/increment-with-lease"
    answer = run.post(path, content=body.encode("latin-1"))

    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY


def test_grants_open_what_they_name_to_the_runs_of_one_pool(
    run: httpx.Client, world: World, ids: Objects
) -> None:
    asked: list[Request] = [
        _FOREIGN["read a block"](ids),
        _FOREIGN["read a block by its id"](ids),
        _FOREIGN["read a variable"](ids),
        ("GET", "/deployments/name/ours/default", None),
        ("GET", f"/deployments/{ids.deployment}", None),
        (
            "POST",
            f"/deployments/{ids.deployment}/create_flow_run",
            {"parent_task_run_id": ids.other_task},
        ),
        _FOREIGN["take slots of a limit"](ids),
    ]
    with world.run(ids.other_pool, namespace="others") as granted:

        def statuses(client: httpx.Client) -> list[int]:
            return [client.request(how, path, json=body).status_code for how, path, body in asked]

        grant(world, ids)
        assert set(statuses(granted)) == {httpx.codes.FORBIDDEN}
        grant(world, ids, **EVERYTHING)
        assert all(status < httpx.codes.BAD_REQUEST for status in statuses(granted))
        for unlike in (
            {"job_variables": {"image": "evil"}},
            {"enforce_parameter_schema": False},
            {"parameters": {"x": [_HYDRATED]}},
        ):
            path = f"/deployments/{ids.deployment}/create_flow_run"
            refused = granted.post(path, json={"parent_task_run_id": ids.other_task, **unlike})
            assert refused.status_code == httpx.codes.FORBIDDEN, unlike
    assert run.get("/variables/name/theirs").status_code == httpx.codes.FORBIDDEN


def test_a_run_changes_only_the_variables_that_its_pool_may_change(
    world: World, ids: Objects
) -> None:
    grants = "work_pool_grants_other"
    refused: list[Request] = [
        ("PATCH", "/variables/name/theirs", {"value": "forged"}),
        ("DELETE", "/variables/name/theirs", None),
        ("PATCH", "/variables/name/position", {"name": "theirs", "value": 1}),
        ("PATCH", "/variables/name/position", {"name": None, "value": 1}),
        ("POST", "/variables/", {"name": "forged", "value": 1}),
        ("POST", "/variables/", {"name": grants, "value": EVERYTHING}),
        ("PATCH", f"/variables/name/{grants}", {"value": EVERYTHING}),
        ("DELETE", f"/variables/name/{grants}", None),
    ]
    grant(world, ids)
    grant(world, ids, **{**EVERYTHING, "writable_variables": ["position", grants]})
    with world.run(ids.other_pool, namespace="others") as run:
        created = run.post("/variables/", json={"name": "position", "value": 1})
        assert created.status_code == httpx.codes.CREATED
        for how, path, body in refused:
            answer = run.request(how, path, json=body)
            assert answer.status_code == httpx.codes.FORBIDDEN, (how, path, body)
        assert run.delete("/variables/name/position").is_success


def test_a_run_may_cancel_the_run_that_it_started_and_not_change_it(
    world: World, ids: Objects
) -> None:
    grant(world, ids)
    grant(world, ids, variables=["theirs"], deployments=["ours/default"])
    with world.run(ids.other_pool, namespace="others") as run:
        path = f"/deployments/{ids.deployment}/create_flow_run"
        started = run.post(path, json={"parent_task_run_id": ids.other_task}).json()["id"]

        assert run.get(f"/flow_runs/{started}").is_success
        changes = {
            f"/flow_runs/{started}": run.patch(
                f"/flow_runs/{started}", json={"parameters": {"x": 1}}
            ),
            "/logs/": run.post("/logs/", json=[_log(started)]),
            "set_state": run.post(f"/flow_runs/{started}/set_state", json=_RUNNING),
        }
        assert {each.status_code for each in changes.values()} == {httpx.codes.FORBIDDEN}
        cancelled = run.post(
            f"/flow_runs/{started}/set_state", json={"state": {"type": "CANCELLED"}}
        )
        assert cancelled.is_success


def test_a_run_that_has_ended_does_not_run_again(world: World, ids: Objects) -> None:
    ended = _started(world, ids)
    with world.run(ended) as run:
        path = f"/flow_runs/{ended}/set_state"
        assert run.post(path, json={"state": {"type": "COMPLETED"}}).is_success
        again = run.post(path, json={**_RUNNING, "force": True})

    assert again.status_code == httpx.codes.FORBIDDEN


def test_a_run_that_is_being_cancelled_cannot_refuse(world: World, ids: Objects) -> None:
    cancelled = _started(world, ids)
    world.api("POST", f"/flow_runs/{cancelled}/set_state", _CANCELLING)
    with world.run(cancelled) as run:
        path = f"/flow_runs/{cancelled}/set_state"
        refused = run.post(path, json={**_RUNNING, "force": True})

    assert refused.status_code == httpx.codes.FORBIDDEN


def test_a_grant_that_was_changed_by_hand_grants_nothing(world: World, ids: Objects) -> None:
    grant(world, ids, variables=["theirs"])
    grant(world, ids, blocks=["secret/theirs"], unknown=["x"])
    with world.run(ids.other_pool, namespace="others") as run:
        assert run.get(f"/flow_runs/{ids.other_pool}").is_success
        block = _FOREIGN["read a block"](ids)
        assert run.get(block[1]).status_code == httpx.codes.FORBIDDEN
    assert "is not valid, so that nothing is granted" in world.log.read_text()


def test_a_run_does_not_pass_as_an_automation(
    run: httpx.Client, world: World, ids: Objects
) -> None:
    body = {"flow_id": ids.flow, "parent_task_run_id": ids.own_task}
    headers = {"prefect-automation-id": ids.automation, "prefect-automation-name": "theirs"}
    made = run.post("/flow_runs/", json=body, headers=headers).json()

    assert world.api("GET", f"/flow_runs/{made['id']}")["created_by"] is None


def test_a_path_does_not_control_the_terminal_of_who_reads_the_log(
    run: httpx.Client, world: World
) -> None:
    assert run.get("/x%1b[2J%0Dy").status_code == httpx.codes.FORBIDDEN
    log = world.log.read_text()
    assert "\x1b[2J" not in log
    assert "GET /x␛[2J␍y of" in log


def _started(world: World, ids: Objects) -> str:
    run: str = world.api("POST", f"/deployments/{ids.deployment}/create_flow_run", {})["id"]
    world.api("POST", f"/flow_runs/{run}/set_state", _RUNNING)
    return run
