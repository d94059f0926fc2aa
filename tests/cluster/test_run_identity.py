"""A hostile flow reaches only its own run through the API, and the example flow what it needs."""

import json
import re
import sys
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.cluster.deployed import (
    DEPLOYMENT,
    POOL,
    Platform,
    command,
    deploy_code,
    eventually,
    final,
    messages,
)

_Attack = tuple[str, str, str, object]
"""What it does, method, path (`{own}` is the id of the hostile run) and body."""

_OWN_POOL = f"/work_pools/{POOL}"
_CANCELLING = {"state": {"type": "CANCELLING"}}
# Sends requests with the token of its pod, and prints the answers.
_INTRUDER = """
import json
import os

import httpx
from prefect import flow
from prefect.runtime import flow_run

@flow(log_prints=True)
def intruder(attacks: list):
    with open(os.environ["POD_TOKEN_FILE"]) as file:
        headers = {"Authorization": "Bearer " + file.read()}
    url = os.environ["PREFECT_API_URL"]
    for name, method, path, body in attacks:
        path = path.format(own=flow_run.id)
        answer = httpx.request(method, url + path, json=body, headers=headers, timeout=60)
        print("found", json.dumps([name, answer.status_code]))
    print("found", json.dumps(["auth string", "PREFECT_API_AUTH_STRING" in os.environ]))
"""


def test_a_hostile_flow_reaches_only_its_own_run(prefect: SyncPrefectClient) -> None:
    other = prefect.read_deployment_by_name(DEPLOYMENT)
    theirs = prefect.create_flow_run_from_deployment(
        other.id, parameters={"date": "2013-05-02"}, tags=["theirs"]
    )
    attacks = _attacks(prefect, str(other.id), str(theirs.id))
    deployment = deploy_code(prefect, "intruder", _INTRUDER)
    try:
        run = final(
            prefect,
            prefect.create_flow_run_from_deployment(deployment, parameters={"attacks": attacks}),
        )
        assert run.state is not None
        assert run.state.is_completed(), run.state.message

        def printed() -> list[str]:
            lines = messages(prefect, run.id)
            return [line.removeprefix("found ") for line in lines if line.startswith("found ")]

        eventually("the log of the run is stored", lambda: len(printed()) == len(attacks) + 1)
        found = dict(json.loads(line) for line in printed())
        victim = final(prefect, theirs)
        for name, answer in {**found, f"run {DEPLOYMENT}": victim.state_name}.items():
            sys.stdout.write(f"{name:40} {answer}\n")
        assert found.pop("auth string") is False
        assert found.pop("block of the results: read") == 200
        assert set(found.values()) == {403}
        assert victim.state_name == "Completed", victim.state
        assert "theirs" in victim.tags
    finally:
        prefect.delete_deployment(deployment)


def _attacks(prefect: SyncPrefectClient, deployment: str, run: str) -> list[_Attack]:
    """Return requests against a deployment and a run of others, and one that a run may send."""
    template = prefect.read_work_pool(POOL).base_job_template
    template["job_configuration"]["cluster_config"] = {"config": {}, "context_name": "a"}
    privileged = {"job_variables": {"privileged": True}}
    start = f"/deployments/{deployment}/create_flow_run"
    flow = str(prefect.read_deployment(UUID(deployment)).flow_id)
    (automation, *_) = prefect.read_automations()
    webhook = str(prefect.read_block_type_by_slug("webhook").id)
    block = "/block_types/slug/s3-bucket/block_documents/name"
    return [
        ("template of its pool: change", "PATCH", _OWN_POOL, {"base_job_template": template}),
        ("pool: pause", "PATCH", _OWN_POOL, {"is_paused": True}),
        ("pool: delete", "DELETE", _OWN_POOL, None),
        ("pool: create", "POST", "/work_pools/", {"name": "evil", "type": "process"}),
        ("another run: read, with parameters", "GET", f"/flow_runs/{run}", None),
        ("another run: cancel", "POST", f"/flow_runs/{run}/set_state", _CANCELLING),
        ("another run: rename", "PATCH", f"/flow_runs/{run}", {"name": "mine"}),
        ("another run: delete", "DELETE", f"/flow_runs/{run}", None),
        ("all runs: read", "POST", "/flow_runs/filter", {}),
        ("all logs: read", "POST", "/logs/filter", {}),
        ("all artifacts: read", "POST", "/artifacts/filter", {}),
        ("all blocks: read", "POST", "/block_documents/filter", {"include_secrets": True}),
        ("all variables: read", "POST", "/variables/filter", {}),
        ("deployment: start, not granted", "POST", start, {}),
        ("deployment: start, privileged pod", "POST", start, privileged),
        ("deployment: change, privileged pod", "PATCH", f"/deployments/{deployment}", privileged),
        (
            "deployment: create, privileged pod",
            "POST",
            "/deployments/",
            {"name": "evil", "flow_id": flow, "work_pool_name": POOL, **privileged},
        ),
        ("deployment: delete", "DELETE", f"/deployments/{deployment}", None),
        ("own run: privileged pod", "PATCH", "/flow_runs/{own}", privileged),
        (
            "run in the pool: privileged pod",
            "POST",
            "/flow_runs/",
            {"flow_id": flow, "work_pool_name": POOL, "state": {"type": "SCHEDULED"}, **privileged},
        ),
        ("automation: create", "POST", "/automations/", {}),
        ("automation: delete", "DELETE", f"/automations/{automation.id}", None),
        ("webhook: create", "POST", "/block_documents/", {"block_type_id": webhook}),
        ("block of the results: read", "GET", f"{block}/results-default", None),
    ]


def test_worker_reaper_and_configuration_need_no_auth_string(platform: Platform) -> None:
    """They ran in the tests before; a request that was refused is in the log of the API."""
    secrets = platform.kubectl("--namespace=prefect-workers", "get", "secrets", "--output=name")
    log = platform.kubectl("--namespace=prefect", "logs", "deployment/prefect-server", "--tail=-1")

    assert "prefect-auth" not in secrets
    part = "of the (?:worker|reaper|configuration|release-test)"
    # Without runs that tests have deleted, whose pods a worker still observes, and without the
    # time in which Kubernetes was away.
    refused = re.findall(rf".*(?:Refused .* {part}.* with 40[13]|Dropped an event {part}).*", log)
    assert not [line for line in refused if not line.endswith("does not exist")]


@pytest.mark.usefixtures("platform")
def test_every_wall_stands() -> None:
    looked = command("doctor", "pools")
    assert looked.returncode == 0, looked.stderr
