"""`helm test` runs a flow through the work pool, in a job pod that the worker starts."""

import subprocess

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

from prefect_platform_cli.host.toolchain import tool
from tests.cluster.deployed import Platform


def test_helm_test_can_repeatedly_run_a_flow_in_a_job_pod(
    platform: Platform, prefect: SyncPrefectClient
) -> None:
    for _ in range(2):
        tested = subprocess.run(
            [
                *(tool("helm"), "--kubeconfig", platform.kubectl.kubeconfig),
                *("--namespace", "prefect-workers", "test", "prefect-worker", "--logs"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert tested.returncode == 0, tested.stdout + tested.stderr
        assert "completed in the work pool default" in tested.stdout

    deployment = prefect.read_deployment_by_name("prefect-platform-test/default")
    runs = prefect.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    )
    assert [run.state_name for run in runs] == ["Completed", "Completed"]
