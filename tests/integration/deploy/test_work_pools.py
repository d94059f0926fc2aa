"""The status compares each work pool with the chart, tested with a real Prefect server."""

from collections.abc import Iterator
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

from prefect_platform_cli.doctor.pools import template_states
from tests.support.servers import prefect_server

_TEMPLATE: dict[str, Any] = {
    "job_configuration": {"namespace": "{{ namespace }}"},
    "variables": {"properties": {"namespace": {"type": "string", "default": "flows"}}},
}


@pytest.fixture
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    with (
        prefect_server(tmp_path_factory.mktemp("server")) as url,
        SyncPrefectClient(url) as client,
    ):
        yield client


def test_a_pool_that_differs_from_the_chart_is_named_with_the_next_command(
    prefect: SyncPrefectClient,
) -> None:
    for name in ("same", "changed"):
        prefect.create_work_pool(
            WorkPoolCreate(name=name, type="kubernetes", base_job_template=_TEMPLATE)
        )
    changed = {**_TEMPLATE, "job_configuration": {"namespace": "kube-system"}}
    prefect.update_work_pool("changed", WorkPoolUpdate(base_job_template=changed))

    same, differs, absent = template_states(
        prefect, dict.fromkeys(("same", "changed", "absent"), _TEMPLATE)
    )
    correct = "next: helm get notes prefect-worker --namespace prefect-workers"
    assert same == "same: the server has the base job template of the chart"
    assert differs == (
        "the server's copy of the base job template of the work pool changed differs from the "
        f"chart in job_configuration.namespace, so its worker starts no run; {correct}"
    )
    assert absent == f"the server does not know the work pool absent; {correct}"
