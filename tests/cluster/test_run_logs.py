"""Logs of a run are structured in its pod, and remain in the API when the pod is deleted."""

import json

from prefect.client.orchestration import SyncPrefectClient

from tests.cluster.deployed import JOBS, Platform, deploy_code, final, messages

_FLOW = """
from prefect import flow

@flow(log_prints=True)
def talkative():
    print("the answer is 42")
"""


def test_structured_logs_of_a_run_outlive_its_pod(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    deployment = deploy_code(prefect, "talkative", _FLOW)
    structured = {"PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json"}
    run = prefect.create_flow_run_from_deployment(deployment, job_variables={"env": structured})
    assert final(prefect, run).state_name == "Completed"
    selector = f"--selector=prefect.io/flow-run-id={run.id}"
    in_jobs = f"--namespace={JOBS}"

    records = [
        json.loads(line) for line in platform.kubectl(in_jobs, "logs", selector).splitlines()
    ]
    platform.kubectl(in_jobs, "delete", "job", selector, "--cascade=foreground")
    assert not platform.kubectl(in_jobs, "get", "pods", selector, "--output=name")

    printed = [record for record in records if record.get("message") == "the answer is 42"]
    assert [record["flow_run_id"] for record in printed] == [str(run.id)]
    assert "the answer is 42" in messages(prefect, run.id)
