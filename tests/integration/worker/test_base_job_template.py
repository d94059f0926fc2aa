"""Whoever holds a credential of Prefect's cannot decide what the worker does in Kubernetes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.utilities.collections import deep_merge

from prefect_platform.polling import wait_until
from tests.integration.worker.worker_program import (
    POOL,
    TEMPLATE,
    WITHIN,
    Worker,
    prefect_server,
    scheduled_run,
    watching_worker,
)
from tests.support.kubernetes_api import KubernetesApi, fake_kubernetes

_IN_THE_ENVIRONMENT = "never-in-a-name"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    with prefect_server(tmp_path_factory.mktemp("server")) as url, SyncPrefectClient(url) as client:
        yield client


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesApi]:
    with fake_kubernetes(tmp_path_factory.mktemp("kubernetes") / "kubeconfig") as api:
        yield api


@pytest.fixture(scope="module")
def worker(
    client: SyncPrefectClient,
    kubernetes: KubernetesApi,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("worker") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_SECRET", _IN_THE_ENVIRONMENT)
        with watching_worker(str(client.api_url), kubernetes, folder, "w") as worker:
            yield worker


def jobs_of(kubernetes: KubernetesApi, run: UUID) -> list[dict[str, Any]]:
    return [
        job
        for job in kubernetes.objects["jobs"].values()
        if job["metadata"]["labels"]["prefect.io/flow-run-id"] == str(run)
    ]


def log_of(client: SyncPrefectClient, run: UUID) -> str:
    found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))
    return "\n".join(line.message for line in found)


def update_template(client: SyncPrefectClient, template: dict[str, Any]) -> None:
    client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))


def test_a_template_that_a_run_changes_on_the_server_starts_nothing_until_it_is_corrected(
    client: SyncPrefectClient, kubernetes: KubernetesApi, worker: Worker, tmp_path: Path
) -> None:
    """The attack of 2026-11: an exec plugin as the user of the cluster that the worker calls."""
    proof = tmp_path / "executed"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}
    user = {"exec": {**plugin, "command": "touch", "args": [str(proof)]}}
    kubeconfig = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": user}],
    }
    attack = {"cluster_config": {"config": kubeconfig, "context_name": "a"}}
    update_template(client, deep_merge(TEMPLATE, {"job_configuration": attack}))

    def waits() -> bool:
        health = worker.health()
        return health is not None and health.json()["waiting"] != []

    assert wait_until(waits, WITHIN), worker.log.read_text()
    run = scheduled_run(client)
    assert wait_until(lambda: "is started, because" in log_of(client, run), WITHIN)

    health = worker.health()
    assert health is not None
    assert health.status_code == httpx.codes.OK
    for told in (*health.json()["waiting"], log_of(client, run), worker.log.read_text()):
        assert "in job_configuration.cluster_config" in told.replace("\n", " ")
        assert "127.0.0.1:1" not in told
    assert log_of(client, run).count("is started, because") == 1
    state = client.read_flow_run(run).state
    assert state is not None
    assert (state.is_scheduled(), jobs_of(kubernetes, run)) == (True, [])

    update_template(client, TEMPLATE)

    assert wait_until(lambda: jobs_of(kubernetes, run), WITHIN), worker.log.read_text()
    assert not proof.exists()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"name": "{{ $A_SECRET }}"}, "name refers to an environment variable of the worker"),
        ({"name": "{{ prefect.variables.indirect }}"}, "name refers to an environment variable"),
        ({"name": "{{ prefect.variables.twice }}"}, "name refers to a value that itself refers"),
        ({"image": "{{ prefect.variables.mapping }}"}, "image does not meet the rule"),
    ],
    ids=str,
)
def test_a_run_whose_job_variables_are_refused_crashes_with_the_reason(
    client: SyncPrefectClient,
    kubernetes: KubernetesApi,
    worker: Worker,
    *,
    variables: dict[str, object],
    reason: str,
) -> None:
    values: dict[str, object] = {
        "indirect": "{{ $A_SECRET }}",
        "twice": "{{ prefect.variables.indirect }}",
        "mapping": {"a": "b"},
    }
    for name, value in values.items():
        client.request("POST", "/variables/", json={"name": name, "value": value})
    try:
        run = scheduled_run(client, **variables)

        def crashed() -> bool:
            state = client.read_flow_run(run).state
            return state is not None and state.is_crashed()

        assert wait_until(crashed, WITHIN), worker.log.read_text()
    finally:
        for name in values:
            client.delete_variable_by_name(name)

    state = client.read_flow_run(run).state
    assert state is not None
    assert reason in str(state.message)
    assert jobs_of(kubernetes, run) == []
    assert _IN_THE_ENVIRONMENT not in f"{state.message}{log_of(client, run)}"
    assert wait_until(lambda: reason in log_of(client, run), WITHIN)
    assert "Traceback" not in log_of(client, run)


def test_references_to_blocks_and_variables_in_job_variables_still_work(
    client: SyncPrefectClient, kubernetes: KubernetesApi, worker: Worker
) -> None:
    client.request("POST", "/variables/", json={"name": "region", "value": "eu"})
    try:
        run = scheduled_run(client, env={"REGION": "{{ prefect.variables.region }}"})
        assert wait_until(lambda: jobs_of(kubernetes, run), WITHIN), worker.log.read_text()
    finally:
        client.delete_variable_by_name("region")

    (job,) = jobs_of(kubernetes, run)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "REGION", "value": "eu"} in container["env"]
