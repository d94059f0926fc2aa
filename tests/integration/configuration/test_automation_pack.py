"""Each automation of the pack sends one alert for its cause, and none for similar events.

To show that an event causes no alert, a test causes a later alert of the same kind: once that one
has arrived, the server has evaluated all earlier events.
"""

import asyncio
import logging
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.events.clients import get_events_client
from prefect.states import (
    Cancelled,
    Completed,
    Crashed,
    Failed,
    InfrastructurePending,
    Pending,
    Running,
    Scheduled,
    Submitting,
)
from prefect.types import DateTime
from prefect_kubernetes import observer  # type: ignore[import-untyped]

from prefect_platform import waiting_reasons
from tests.integration.configuration.packed_server import (
    BOUND,
    TIMEOUT,
    UI,
    Alert,
    PackedServer,
    Run,
    packed_server,
)

_WORKERS = (
    "kubectl get pods --all-namespaces --selector "
    "app.kubernetes.io/name=prefect-worker,app.kubernetes.io/component=worker"
)
_HOUR = timedelta(hours=1)
Status = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackedServer]:
    with packed_server(tmp_path_factory.mktemp("packed")) as running:
        yield running


def assert_silent(server: PackedServer, subject: str, *runs: Run) -> None:
    """Fail if an alert with this subject has arrived for one of the runs."""
    for run in runs:
        assert server.receiver.about(f"{run.name}{subject}") == []


def test_a_run_that_the_reaper_names_is_reported_once_and_left_alone(server: PackedServer) -> None:
    named, other = (server.new_run(Pending(), Running()) for _ in "12")
    for _ in range(2):
        server.name_silent(named)

    assert server.receiver.wait_for(f"{named.name} sends") == Alert(
        f"[warning] {named.name} sends no heartbeats",
        f"The run {named.name} of {named.origin} has sent no heartbeat for 10 min, but nothing "
        "says that its container has ended; it is left alone. It may be computing, or hang.\n"
        f"{named.last_lines}",
    )
    server.name_silent(other)
    server.receiver.wait_for(f"{other.name} sends")
    assert len(server.receiver.about(f"{named.name} sends")) == 1
    assert {server.state(run) for run in (named, other)} == {"Running"}


def test_a_run_that_does_not_start_is_reported_with_its_reason_and_goes_on(
    server: PackedServer,
) -> None:
    """A run that has started, one that is Scheduled again and one without a deployment are not."""
    started = server.new_run(Pending(), Submitting(), InfrastructurePending(), Running())
    rescheduled = server.new_run(Pending(), Scheduled(scheduled_time=DateTime.now(UTC) + _HOUR))
    called = server.run_without_deployment(Pending())
    limited = server.deployment("limited", concurrency_limit=1)
    stuck, waiting = server.run_of(limited), server.run_of(limited)
    quota: State[None] = Pending(name=waiting_reasons.QUOTA, message="exceeded quota: jobs")
    server.take(stuck, Pending(), Submitting(), quota)
    server.take(waiting, Pending())
    assert server.state(waiting) == "AwaitingConcurrencySlot"

    assert server.receiver.wait_for(f"{stuck.name} does") == Alert(
        f"[warning] {stuck.name} does not start",
        f"The run {stuck.name} of limited/daily has been WaitingForQuota for {BOUND} s: exceeded "
        f"quota: jobs\n{stuck.last_lines}",
    )

    assert server.state(stuck) == "WaitingForQuota"
    # The default command of the worker's pods.
    with server.process(stuck, "prefect", "flow-run", "execute") as pod:
        assert pod.wait(TIMEOUT) == 0
    assert server.state(stuck) == "Completed"
    server.take(waiting, Pending())
    assert server.state(waiting) == "Pending"
    alive = {started: "Running", rescheduled: "Scheduled", called: "Pending"}
    assert {run: server.state(run) for run in alive} == alive
    assert_silent(server, " does not start", *alive)


def test_a_late_run_is_reported_unless_a_worker_has_taken_it(
    server: PackedServer,
) -> None:
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    server.client.request("POST", "/work_pools/", json={"name": pool, "type": "process"})
    deployment = server.deployment("scheduled", work_pool_name=pool)
    due: State[None] = Scheduled(scheduled_time=DateTime.now(UTC) - timedelta(seconds=60))
    taken, late = server.run_of(deployment, due), server.run_of(deployment, due)
    for run in (taken, late):
        server.await_state(run, "Late")
    server.take(taken, Pending(), Running())

    found = server.client.request("GET", "/flow_runs/{id}", path_params={"id": late.id}).json()
    expected = DateTime.fromisoformat(found["expected_start_time"])
    assert server.receiver.wait_for(f"{late.name} is late") == Alert(
        f"[warning] {late.name} is late",
        f"The run {late.name} of scheduled/daily was due at {expected}, but no worker has picked "
        f"it up: its work pool {pool} is paused, has no free slot, or has no worker.\n{_WORKERS}\n"
        f"{UI}/runs/flow-run/{late.id}",
    )
    assert_silent(server, " is late", taken)


def test_a_crash_is_reported_and_other_final_states_are_not(server: PackedServer) -> None:
    failed, cancelled, own = (server.new_run(Pending(), Running()) for _ in "123")
    called = server.run_without_deployment(Running(), Crashed(message="on a laptop"))
    server.take(failed, Failed(message="of itself"))
    server.take(cancelled, Cancelled())
    server.take(own, Crashed(message="Kubernetes job was deleted"))

    assert server.receiver.wait_for(f"{own.name} crashed") == Alert(
        f"[critical] {own.name} crashed",
        f"The run {own.name} of {own.origin} crashed: Kubernetes job was deleted\n{own.last_lines}",
    )
    assert_silent(server, " crashed", failed, cancelled, called)


def test_a_run_that_is_cancelled_for_want_of_a_slot_is_reported_once_for_each_deployment(
    server: PackedServer,
) -> None:
    cancel = {"collision_strategy": "CANCEL_NEW"}
    nightly, other = (
        server.deployment(name, concurrency_limit=1, concurrency_options=cancel)
        for name in ("nightly", "other")
    )
    by_hand, first, second = (server.run_of(nightly) for _ in "123")
    for run in (by_hand, first, second):
        server.take(run, Pending())
    server.take(by_hand, Cancelled())
    assert [server.state(run) for run in (by_hand, first, second)] == ["Cancelled"] * 3

    found = server.client.request("GET", "/flow_runs/{id}", path_params={"id": first.id}).json()
    due = DateTime.fromisoformat(found["expected_start_time"])
    assert server.receiver.wait_for(f"{first.name} was cancelled") == Alert(
        f"[warning] {first.name} was cancelled",
        f"The run {first.name} of nightly/daily, due at {due}, was cancelled before it began, "
        "because other runs held all slots of the deployment: Deployment concurrency limit "
        "reached.\nprefect-platform limits nightly/daily\n"
        f"{UI}/runs/flow-run/{first.id}",
    )
    holder, last = (server.run_of(other) for _ in "12")
    for run in (holder, last):
        server.take(run, Pending())
    server.receiver.wait_for(f"{last.name} was cancelled")
    assert_silent(server, " was cancelled", by_hand, second)


def pod(phase: str, *, waiting: str = "", terminated: str = "", unscheduled: str = "") -> Status:
    """Return the status of a pod as Kubernetes reports it."""
    status: Status = {"phase": phase}
    if waiting:
        state: dict[str, Any] = {"waiting": {"reason": waiting, "message": "of the test"}}
        status["containerStatuses"] = [{"name": "prefect-job", "restartCount": 0, "state": state}]
    if terminated:
        finished = {"reason": terminated, "finishedAt": datetime.now(UTC).isoformat()}
        state = {"terminated": finished}
        status["containerStatuses"] = [{"name": "prefect-job", "restartCount": 0, "state": state}]
    if unscheduled:
        condition = {"type": "PodScheduled", "reason": "Unschedulable", "message": unscheduled}
        status["conditions"] = [condition]
    return status


def observe(server: PackedServer, run: Run, *statuses: Status) -> str:
    """Pass these statuses of a pod of the run to the worker's observer; return the pod's name."""
    name = f"{run.name}-{uuid.uuid4().hex[:5]}"
    found = server.client.request("GET", "/flow_runs/{id}", path_params={"id": run.id}).json()
    flow, _, deployment = run.origin.partition("/")
    labels = {  # as prefect.workers.base sets them
        "prefect.io/flow-run-id": run.id,
        "prefect.io/flow-run-name": run.name,
        "prefect.io/flow-id": found["flow_id"],
        "prefect.io/flow-name": flow,
        "prefect.io/deployment-id": found["deployment_id"],
        "prefect.io/deployment-name": deployment,
    }
    created = {"metadata": {"creationTimestamp": datetime.now(UTC).isoformat()}}
    uid = str(uuid.uuid4())

    async def replicate() -> None:
        async with get_client() as observer.orchestration_client, get_events_client() as events:
            observer.events_client = events
            for status in statuses:
                await observer._replicate_pod_event(
                    event={"type": "MODIFIED", "object": created},
                    uid=uid,
                    name=name,
                    namespace="flows-default",
                    labels=labels,
                    status=status,
                    logger=logging.getLogger("observer"),
                )

    asyncio.run(replicate())
    return name


@pytest.mark.parametrize(
    ("pod_fields", "severity", "subject", "sentence"),
    [
        (
            {"phase": "Pending", "waiting": "ErrImagePull"},
            "critical",
            "cannot pull the image",
            "cannot pull its image (ImagePullError)",
        ),
        (
            {"phase": "Failed", "terminated": "OOMKilled"},
            "critical",
            "out of memory",
            "was killed because it exceeded its memory limit (OOMKilled)",
        ),
        (
            {"phase": "Pending", "unscheduled": "0/1 nodes are available: 1 Insufficient cpu."},
            "warning",
            "no node has room",
            "cannot be scheduled: no node has room for it (Unschedulable.InsufficientResources)",
        ),
    ],
    ids=["image-pull", "out-of-memory", "unschedulable"],
)
def test_a_pod_diagnosis_is_reported_once_for_each_deployment(
    server: PackedServer, pod_fields: dict[str, str], severity: str, subject: str, sentence: str
) -> None:
    # Built here, because the automation compares the time at which the pod ended.
    status = pod(**pod_fields)
    healthy = server.new_run(Pending())
    observe(server, healthy, pod("Pending"), pod("Running"), pod("Succeeded"))
    broken = server.new_run(Pending())
    observe(server, broken, pod("Failed", terminated="Error"))
    first, other = server.new_run(Pending()), server.new_run(Pending())

    name = observe(server, first, pod("Pending"), status)
    assert server.receiver.wait_for(f"{first.name}: {subject}") == Alert(
        f"[{severity}] {first.name}: {subject}",
        f"A pod of the run {first.name} of {first.origin} {sentence}. See the run's log for "
        "details.\n"
        f"kubectl --namespace flows-default describe pod {name}\n"
        f"{UI}/runs/flow-run/{first.id}",
    )

    found = server.client.request("GET", "/flow_runs/{id}", path_params={"id": first.id}).json()
    same = server.run_of(found["deployment_id"], Pending())
    observe(server, same, status)
    observe(server, other, status)
    server.receiver.wait_for(f"{other.name}: {subject}")
    assert_silent(server, f": {subject}", healthy, broken, same)
    assert len(server.receiver.about(f"{first.name}: {subject}")) == 1


def test_only_the_deployment_that_keeps_failing_is_reported(server: PackedServer) -> None:
    """A run that timed out counts as failed; one that succeeds does not count."""
    often = server.deployment("often")
    seldom = server.deployment("seldom")
    timed_out = State(type=StateType.FAILED, name="TimedOut", message="too slow")
    rare = [server.run_of(seldom, Pending()) for _ in range(3)]
    rarely: list[State[None]] = [Failed(), Completed(), Failed()]
    for run, end in zip(rare, rarely, strict=True):
        server.take(run, Running(), end)
    runs = [server.run_of(often, Pending()) for _ in range(3)]
    ends: list[State[None]] = [Failed(message="no"), Crashed(message="gone"), timed_out]
    for run, end in zip(runs, ends, strict=True):
        server.take(run, Running(), end)

    # Events of different runs may arrive in any order.
    assert server.receiver.wait_for("keeps failing") in [
        Alert(
            "[critical] often/daily keeps failing",
            "3 runs of often/daily failed within 3600 s. The last one is "
            f"{run.name}: {end.message}\n{run.last_lines}",
        )
        for run, end in zip(runs, ends, strict=True)
    ]
    assert server.receiver.about("seldom/daily keeps failing") == []


def test_a_paused_pool_or_one_without_workers_is_reported_unless_it_recovers(
    server: PackedServer,
) -> None:
    prefix = f"pool-{uuid.uuid4().hex[:8]}"
    names = [f"{prefix}-{what}" for what in ("served", "resumed", "paused", "empty")]
    served, resumed, paused, empty = names
    for name in names:
        pool = {"name": name, "type": "kubernetes"}
        server.client.request("POST", "/work_pools/", json=pool)
    for name in (served, resumed, paused):
        server.client.request(
            "POST",
            "/work_pools/{work_pool_name}/workers/heartbeat",
            path_params={"work_pool_name": name},
            json={"name": "worker", "heartbeat_interval_seconds": 3600},
        )
    for name, is_paused in ((resumed, True), (resumed, False), (paused, True)):
        body = {"is_paused": is_paused}
        server.client.request("PATCH", "/work_pools/{name}", path_params={"name": name}, json=body)

    for name, what in ((empty, "has had no worker"), (paused, "has been paused")):
        assert server.receiver.wait_for(f"pool {name} is") == Alert(
            f"[critical] work pool {name} is not ready",
            f"The work pool {name} {what} for {BOUND} s, so its runs are waiting.\n{_WORKERS}\n"
            f"{UI}/work-pools/work-pool/{name}",
        )
    for name in (served, resumed):
        assert server.receiver.about(name) == []


def test_a_broken_channel_is_reported_once_by_another_one(server: PackedServer) -> None:
    """Further failures of the channel are not reported."""
    subject = "[critical] a notification was not delivered"
    first = server.new_run(Pending(), Running(), Crashed())
    server.receiver.wait_for(first.name)
    alert = server.receiver.wait_for(subject)
    assert alert.body.splitlines()[0].startswith("The automation platform: ")
    assert " could not send a notification through the block alerts-dead: " in alert.body

    second = server.new_run(Pending(), Running(), Crashed())
    server.receiver.wait_for(second.name)
    assert server.receiver.about(subject) == [alert]
