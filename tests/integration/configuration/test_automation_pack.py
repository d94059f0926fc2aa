"""The pack acts on its causes and leaves their neighbours alone: the real server judges.

That something stays silent is shown by a later cause of the same kind, which is judged later and
has acted.
"""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import (
    AwaitingRetry,
    Completed,
    Failed,
    Late,
    Paused,
    Pending,
    Running,
    Suspended,
)
from prefect_kubernetes.diagnostics import DiagnosisCategory  # type: ignore[import-untyped]

from prefect_platform.configuration import commands
from prefect_platform.configuration.automation_pack import PACK, name
from prefect_platform.configuration.platform_file import Files
from prefect_platform.configuration.prefect_api import pages, prefect_api
from prefect_platform.configuration.surroundings import Offline
from prefect_platform.polling import poll
from tests.unit.flows.servers import prefect_server

_BOUND = 10  # Prefect's least
_FILE = f"""
alerts:
  automations:
    zombie: {{within: {_BOUND}}}
    stuck-pending: {{within: {_BOUND}}}
    late: {{within: {_BOUND}}}
    work-pool-not-ready: {{within: {_BOUND}}}
    repeated-failure: {{threshold: 2}}
"""
# The server judges what did not happen every five seconds.
_WITHIN = 90


@flow
def watched() -> None:
    """Be a name for runs: nobody calls it."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    folder: Path = tmp_path_factory.mktemp("files")
    (folder / "platform.yaml").write_text(_FILE)
    (folder / "prefect.yaml").write_text("deployments: []\n")
    with (
        prefect_server(tmp_path_factory.mktemp("server")) as url,
        prefect_api(url, None) as connected,
    ):
        files = Files(folder / "platform.yaml", folder / "prefect.yaml")
        commands.apply(connected, files, Offline(), prune=True)
        yield connected


def run(client: SyncPrefectClient, *states: State[Any], **more: Any) -> UUID:  # noqa: ANN401
    """Return a flow run that went through `states`."""
    created = client.create_flow_run(watched, state=states[0], **more)
    for state in states[1:]:
        client.set_flow_run_state(created.id, state, force=True)
    return created.id


def emit(client: SyncPrefectClient, event: str, resource: dict[str, str], *related: UUID) -> None:
    """Send an event, about a deployment where one is given, as Prefect's own processes do."""
    client.request(
        "POST",
        "/events",
        json=[
            {
                "id": str(uuid.uuid4()),
                "occurred": datetime.now(UTC).isoformat(),
                "event": event,
                "resource": resource,
                "related": [
                    {
                        "prefect.resource.id": f"prefect.deployment.{each}",
                        "prefect.resource.role": "deployment",
                    }
                    for each in related
                ],
            }
        ],
    )


def beat(client: SyncPrefectClient, *runs: UUID) -> None:
    """Send a heartbeat of each run."""
    for each in runs:
        resource = {"prefect.resource.id": f"prefect.flow-run.{each}"}
        emit(client, "prefect.flow-run.heartbeat", resource)


def state_of(client: SyncPrefectClient, flow_run: UUID) -> str:
    """Return the name of a run's state."""
    return str(client.read_flow_run(flow_run).state_name)


def fired(client: SyncPrefectClient, member: str) -> list[str]:
    """Return what each firing of an automation was about: the resources that it names."""
    answer = client.request(
        "POST",
        "/events/filter",
        json={"filter": {"event": {"name": ["prefect.automation.triggered"]}}, "limit": 50},
    ).json()
    return [
        str(event)
        for event in answer["events"]
        if event["resource"]["prefect.resource.name"] == name(member)
    ]


def await_firing(client: SyncPrefectClient, member: str, times: int = 1) -> None:
    """Wait until an automation has fired so often."""
    missing = poll(lambda: len(fired(client, member)) < times, _WITHIN, every=0.5)
    assert not missing, f"{name(member)} did not fire {times} times in {_WITHIN} s"


def await_state(client: SyncPrefectClient, flow_run: UUID, wanted: str) -> None:
    """Wait until a run has a state."""
    missing = poll(lambda: state_of(client, flow_run) != wanted, _WITHIN, every=0.5)
    assert not missing, f"the run did not become {wanted} in {_WITHIN} s"


def test_the_whole_pack_is_on_the_server(client: SyncPrefectClient) -> None:
    names = {each["name"] for each in pages(client, "/automations/filter")}

    assert names == {name(member) for member in PACK}


def test_a_run_whose_heartbeat_stopped_is_crashed_and_no_other(client: SyncPrefectClient) -> None:
    dead = run(client, Running())
    finished, failed = run(client, Running()), run(client, Running())
    paused, suspended = run(client, Running()), run(client, Running())
    retried, child = run(client, Running()), run(client, Running())
    short = run(client, Running(), Completed())
    beat(client, dead, finished, failed, paused, suspended, retried, child)
    states: list[tuple[UUID, State[Any]]] = [
        (finished, Completed()),
        (failed, Failed()),
        (paused, Paused()),
        (suspended, Suspended()),
        (retried, AwaitingRetry()),
        (child, Completed(name="Called")),
    ]
    for each, state in states:
        client.set_flow_run_state(each, state, force=True)
    beat(client, short)  # after its end, as the heartbeat of a run of less than a second arrives
    last = run(client, Running())
    beat(client, last)

    await_state(client, last, "Crashed")

    assert state_of(client, dead) == "Crashed"
    assert "No heartbeat for 10 s" in str(client.read_flow_run(dead).state)
    neighbours = (finished, failed, paused, suspended, retried, child, short)
    assert [state_of(client, each) for each in neighbours] == [
        *("Completed", "Failed", "Paused", "Suspended", "AwaitingRetry", "Called", "Completed")
    ]


def test_a_run_that_stays_pending_is_crashed_and_one_that_starts_or_waits_is_not(
    client: SyncPrefectClient,
) -> None:
    stuck = run(client, Pending())
    started = run(client, Pending(), Running())
    again = run(client, Pending(), AwaitingRetry())
    refused = run(client, Pending(), Pending(name="PodRefused"))
    last = run(client, Pending())

    await_state(client, last, "Crashed")

    assert state_of(client, stuck) == "Crashed"
    assert [state_of(client, each) for each in (started, again, refused)] == [
        *("Running", "AwaitingRetry", "PodRefused")
    ]


def test_a_late_run_is_told_unless_a_worker_takes_it(client: SyncPrefectClient) -> None:
    taken = run(client, Late(), Pending())
    late = run(client, Late())

    await_firing(client, "late")

    (firing,) = fired(client, "late")
    assert str(late) in firing
    assert str(taken) not in firing


@pytest.mark.parametrize(
    ("member", "diagnosis"),
    [
        ("image-pull", DiagnosisCategory.IMAGE_PULL_ERROR),
        ("out-of-memory", DiagnosisCategory.OOM_KILLED),
        ("unschedulable", DiagnosisCategory.UNSCHEDULABLE_INSUFFICIENT_RESOURCES),
    ],
)
def test_a_diagnosis_of_a_pod_is_told_once_a_deployment_and_no_other_one_is(
    client: SyncPrefectClient, member: str, diagnosis: DiagnosisCategory
) -> None:
    """The labels are those that Prefect's observer of Kubernetes gives."""
    deployment, another = uuid.uuid4(), uuid.uuid4()
    before = {each: len(fired(client, each)) for each in PACK}

    def pod(diagnosed: DiagnosisCategory | None, of: UUID) -> None:
        resource = {"prefect.resource.id": f"prefect.kubernetes.pod.{uuid.uuid4()}"}
        if diagnosed:
            resource["kubernetes.diagnosis"] = diagnosed.value
        emit(client, "prefect.kubernetes.pod.pending", resource, of)

    pod(None, deployment)
    pod(diagnosis, deployment)
    pod(diagnosis, deployment)
    pod(diagnosis, another)

    await_firing(client, member, before[member] + 2)

    assert len(fired(client, member)) == before[member] + 2
    unmoved = {"image-pull", "out-of-memory", "unschedulable"} - {member}
    assert {each: len(fired(client, each)) for each in unmoved} == {
        each: before[each] for each in unmoved
    }


def test_a_deployment_that_fails_again_and_again_is_told_and_another_is_not(
    client: SyncPrefectClient,
) -> None:
    flow_id = client.create_flow(watched)
    often, once = (client.create_deployment(flow_id, each) for each in ("often", "once"))
    for deployment in (once, often, often):
        created = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(created.id, Failed(), force=True)

    await_firing(client, "repeated-failure")

    (firing,) = fired(client, "repeated-failure")
    assert str(often) in firing
    assert str(once) not in firing


def test_a_pool_without_a_worker_is_told_and_one_that_is_ready_again_is_not(
    client: SyncPrefectClient,
) -> None:
    ready, waiting = (f"prefect.work-pool.{uuid.uuid4()}" for _ in range(2))
    for pool in (ready, waiting):
        emit(client, "prefect.work-pool.not-ready", {"prefect.resource.id": pool})
    emit(client, "prefect.work-pool.ready", {"prefect.resource.id": ready})

    await_firing(client, "work-pool-not-ready")

    (firing,) = fired(client, "work-pool-not-ready")
    assert waiting in firing
    assert ready not in firing


def test_a_failed_delivery_is_told_but_not_that_of_this_alert(client: SyncPrefectClient) -> None:
    def failed(automation: str) -> None:
        block = f"prefect.block-document.{uuid.uuid4()}"
        client.request(
            "POST",
            "/events",
            json=[
                {
                    "id": str(uuid.uuid4()),
                    "occurred": datetime.now(UTC).isoformat(),
                    "event": "prefect.automation.action.failed",
                    "resource": {
                        "prefect.resource.id": f"prefect.automation.{uuid.uuid4()}",
                        "prefect.resource.name": automation,
                    },
                    "related": [{"prefect.resource.id": block, "prefect.resource.role": "block"}],
                    "payload": {"reason": automation},
                }
            ],
        )

    failed(name("delivery-failed"))
    failed(name("crashed"))

    await_firing(client, "delivery-failed")

    (firing,) = fired(client, "delivery-failed")
    assert "platform: crashed" in firing
