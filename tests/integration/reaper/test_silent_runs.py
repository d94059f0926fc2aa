"""A run without heartbeats is ended only if Kubernetes says that its container is gone, too."""

import uuid

import pytest

from prefect_platform.polling import wait_until
from prefect_platform.reaper.pass_report import SILENT_EVENT
from tests.integration.reaper.reaped_pool import BACKOFF, ReapedPool
from tests.support.kubernetes_api import NAMESPACE

SILENT = "It has sent no heartbeat for 10 min."


def computing(
    reaped: ReapedPool, *, cut_off: float | None = None, deleted: float | None = None
) -> uuid.UUID:
    """Create a run that is Running, with its Job and its pod."""
    run = reaped.run(job="computing")
    reaped.job(run, "computing")
    reaped.pod(run, cut_off=cut_off, deleted=deleted)
    return run


def reap(reaped: ReapedPool, later: float, *, silence: float = 600) -> dict[str, int]:
    """Make a pass `later` seconds after the test began, with the chart's periods."""
    return reaped.reap(later=later, silence=silence, lost_node=600)


def test_a_silent_run_whose_container_runs_is_left_alone_and_named(
    reaped: ReapedPool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = computing(reaped)
    sentence = (
        "has sent no heartbeat for 10 min, but nothing says that its container has ended; it is "
        "left alone"
    )

    for _ in range(2):
        assert reap(reaped, 910) == {"run_silent": 1}
        name = reaped.client.read_flow_run(run).name
        assert f"the run {name} ({run}) is Running, and {sentence}" in capsys.readouterr().err
    assert reaped.states(run) == ["Running"]

    about = {
        "event": {"name": [SILENT_EVENT]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    assert wait_until(lambda: len(reaped.events(about)) == 2, 60)
    assert {each["payload"]["reason"] for each in reaped.events(about)} == {sentence}


def test_a_run_without_heartbeats_and_without_a_container_is_crashed_for_both_reasons(
    reaped: ReapedPool,
) -> None:
    run = reaped.run(job="ended")
    reaped.job(run, "ended", BACKOFF)
    reaped.heartbeat(run, later=300)

    assert reap(reaped, 890) == {}
    assert reap(reaped, 910) == {"run_with_ended_job": 1}
    assert reaped.state(run) == (
        "Crashed",
        f"The Job {NAMESPACE}/ended has ended (Failed: BackoffLimitExceeded: Job has reached the "
        f"specified backoff limit), but the run was still Running. {SILENT}",
    )
    assert reap(reaped, 910) == {}
    assert reaped.states(run) == ["Running", "Crashed"]


def test_a_run_that_sends_heartbeats_is_left_alone_although_its_job_is_gone(
    reaped: ReapedPool,
) -> None:
    run = reaped.run(job="gone")
    reaped.heartbeat(run, later=600)

    assert reap(reaped, 910) == reap(reaped, 910) == {}
    assert reaped.states(run) == ["Running"]


def test_a_silent_run_is_left_alone_while_a_pod_has_outlived_its_job(reaped: ReapedPool) -> None:
    run = reaped.run(job="gone")
    reaped.pod(run)

    assert reap(reaped, 910) == reap(reaped, 910) == {"run_silent": 1}
    assert reaped.states(run) == ["Running"]
    reaped.pod(run, phase="Failed")
    assert reap(reaped, 910) == {"run_without_job": 1}


def test_a_silent_run_is_crashed_when_its_node_has_been_lost_for_the_declared_time(
    reaped: ReapedPool,
) -> None:
    run = computing(reaped, cut_off=10)

    assert reap(reaped, 580, silence=300) == {"run_silent": 1}
    assert reaped.states(run) == ["Running"]
    assert reap(reaped, 910) == {"run_on_lost_node": 1}
    state, message = reaped.state(run)
    assert state == "Crashed"
    assert message.startswith(
        f"The node node-7 of the pod {NAMESPACE}/pod-{run} has not been ready since "
    )
    assert message.endswith(f"Z, but the run was still Running. {SILENT}")
    assert reap(reaped, 910) == {}


def test_a_silent_run_whose_deleted_pod_does_not_end_is_crashed_and_its_state_says_so(
    reaped: ReapedPool,
) -> None:
    run = computing(reaped, deleted=10)

    assert reap(reaped, 580, silence=300) == {"run_silent": 1}
    assert reap(reaped, 910) == {"run_on_lost_node": 1}
    assert reaped.state(run)[1].startswith(
        f"The pod {NAMESPACE}/pod-{run} was deleted and should have ended at "
    )


def test_a_pending_run_is_crashed_once_its_node_has_not_confirmed_the_end_of_its_pod(
    reaped: ReapedPool,
) -> None:
    run = reaped.run("InfrastructurePending", kind="PENDING", job="starting")
    reaped.job(run, "starting")
    waits = reaped.run("WaitingForImage", kind="PENDING", job="waits")
    reaped.job(waits, "waits")
    reaped.pod(waits, phase="Pending")
    reaped.pod(run, phase="Pending")
    assert reap(reaped, 910) == {}

    reaped.pod(run, phase="Pending", deleted=10)
    assert reap(reaped, 580, silence=300) == reap(reaped, 610, silence=3600) == {}
    assert reap(reaped, 910) == {"run_on_lost_node": 1}
    state, message = reaped.state(run)
    assert state == "Crashed"
    assert message.startswith(
        f"The pod {NAMESPACE}/pod-{run} was deleted and should have ended at "
    )
    assert reaped.states(waits) == ["WaitingForImage"]


def test_a_silent_run_that_never_had_a_job_is_named(reaped: ReapedPool) -> None:
    run = reaped.run()

    assert reap(reaped, 910) == {"run_silent": 1}
    assert reaped.states(run) == ["Running"]


def test_a_run_on_a_lost_node_that_sends_heartbeats_is_left_alone(reaped: ReapedPool) -> None:
    run = computing(reaped, cut_off=10)
    reaped.heartbeat(run, later=600)

    assert reap(reaped, 910) == reap(reaped, 910) == {}
    assert reaped.states(run) == ["Running"]


def test_a_run_that_computes_while_its_events_are_lost_for_minutes_is_left_alone(
    reaped: ReapedPool,
) -> None:
    run = computing(reaped)
    reaped.heartbeat(run, later=500)
    away, back, long_away = 860, 1200, 3600

    assert reap(reaped, away) == reap(reaped, away) == {}
    reaped.heartbeat(run, later=870)
    assert reap(reaped, back) == reap(reaped, back) == {}
    assert reap(reaped, long_away) == {"run_silent": 1}
    assert reaped.states(run) == ["Running"]


def test_a_silent_run_whose_container_runs_is_ended_only_after_a_declared_time(
    reaped: ReapedPool,
) -> None:
    run = computing(reaped)

    for _ in range(2):
        assert reaped.reap(later=3500, silence=600, end_silent=3600) == {"run_silent": 1}
    assert reaped.reap(later=4000, silence=600, end_silent=3600) == {"run_silent_too_long": 1}
    state, message = reaped.state(run)
    assert state == "Crashed"
    assert message.startswith("The run has sent no heartbeat for 60 min, and nothing says that ")
    assert reaped.reap(later=4000, silence=600, end_silent=3600, hooks=7200) == {}
    assert reaped.jobs() == {"computing"}
