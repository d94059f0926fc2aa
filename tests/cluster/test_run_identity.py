"""A hostile flow reaches only its own run through the API."""

import json
import re
import sys

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

# Sends requests with the token of its pod, and prints the answers.
_INTRUDER = """
import json
import os

import httpx
from prefect import flow

@flow(log_prints=True)
def intruder(attacks: list):
    with open(os.environ["POD_TOKEN_FILE"]) as file:
        headers = {"Authorization": "Bearer " + file.read()}
    url = os.environ["PREFECT_API_URL"]
    for name, method, path, body in attacks:
        answer = httpx.request(method, url + path, json=body, headers=headers, timeout=60)
        print("found", json.dumps([name, answer.status_code]))
    print("found", json.dumps(["auth string", "PREFECT_API_AUTH_STRING" in os.environ]))
"""


def test_a_hostile_flow_reaches_only_its_own_run(prefect: SyncPrefectClient) -> None:
    other = prefect.read_deployment_by_name(DEPLOYMENT)
    theirs = prefect.create_flow_run_from_deployment(
        other.id, parameters={"date": "2013-05-02"}, tags=["theirs"]
    )
    block = "/block_types/slug/s3-bucket/block_documents/name"
    template = prefect.read_work_pool(POOL).base_job_template
    template["job_configuration"]["cluster_config"] = {"config": {}, "context_name": "a"}
    pod = {"privileged": True}
    attacks: list[tuple[str, str, str, object]] = [
        (
            "change the template of its pool",
            "PATCH",
            f"/work_pools/{POOL}",
            {"base_job_template": template},
        ),
        ("read another run", "GET", f"/flow_runs/{theirs.id}", None),
        ("read all runs", "POST", "/flow_runs/filter", {}),
        ("read all logs", "POST", "/logs/filter", {}),
        ("read all blocks", "POST", "/block_documents/filter", {"include_secrets": True}),
        ("read all variables", "POST", "/variables/filter", {}),
        (
            "cancel another run",
            "POST",
            f"/flow_runs/{theirs.id}/set_state",
            {"state": {"type": "CANCELLING"}},
        ),
        ("delete another run", "DELETE", f"/flow_runs/{theirs.id}", None),
        ("start an undeclared deployment", "POST", f"/deployments/{other.id}/create_flow_run", {}),
        (
            "start a privileged pod",
            "POST",
            f"/deployments/{other.id}/create_flow_run",
            {"job_variables": pod},
        ),
        ("change a deployment", "PATCH", f"/deployments/{other.id}", {"job_variables": pod}),
        ("create a pool", "POST", "/work_pools/", {"name": "evil", "type": "process"}),
        ("create an automation", "POST", "/automations/", {}),
        ("read the block of the results", "GET", f"{block}/results-default", None),
    ]
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
        for name, answer in found.items():
            sys.stdout.write(f"{name:40} {answer}\n")
        assert found.pop("auth string") is False
        assert found.pop("read the block of the results") == 200
        assert set(found.values()) == {403}
        assert "theirs" in prefect.read_flow_run(theirs.id).tags
    finally:
        prefect.delete_deployment(deployment)


def test_worker_reaper_and_configuration_need_no_auth_string(platform: Platform) -> None:
    """They ran in the tests before; a request that was refused is in the log of the API."""
    secrets = platform.kubectl("--namespace=prefect-workers", "get", "secrets", "--output=name")
    log = platform.kubectl("--namespace=prefect", "logs", "deployment/prefect-server", "--tail=-1")

    assert "prefect-auth" not in secrets
    part = "of the (?:worker|reaper|configuration|release-test)"
    # Without a run that was deleted, which a worker may still ask for, and Kubernetes being away.
    assert not re.findall(rf".*(?:Refused .* {part}.* with 40[13]|Dropped an event {part}).*", log)


@pytest.mark.usefixtures("platform")
def test_every_wall_stands() -> None:
    looked = command("doctor", "pools")
    assert looked.returncode == 0, looked.stderr
