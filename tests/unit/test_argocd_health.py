"""Argo CD's health checks of k8s/argocd/argocd-cm.yaml, run in the Lua that Argo CD provides."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from tests.support.rendering import ARGOCD

_PREFIX = "resource.customizations.health."
# What Argo CD opens of Lua's libraries: the basic functions and `table`.
_ABSENT = ("string", "math", "io", "debug", "coroutine")
_APPLICATION, _JOB, _CRON_JOB = "argoproj.io_Application", "batch_Job", "batch_CronJob"
_NOON, _LATER = "2026-01-01T12:00:00Z", "2026-01-01T12:00:30Z"


@cache
def scripts() -> Mapping[str, str]:
    data = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())["data"]
    return {key.removeprefix(_PREFIX): script for key, script in data.items()}


def health(check: str, **fields: object) -> tuple[str, str]:
    """Return the status and the message that a check gives to an object."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    for library in _ABSENT:
        lua.globals()[library] = None
    lua.globals().obj = lua.table_from(
        {"metadata": {"name": "etl", "namespace": "ns"}, "spec": {}, **fields}, recursive=True
    )
    found = lua.execute(scripts()[check])
    return found.status, found.message or ""


def application(
    *, phase: str = "", sync: str = "Synced", conditions: Sequence[Mapping[str, str]] = ()
) -> tuple[str, str]:
    """Return the health of an Application that is healthy itself."""
    status: dict[str, Any] = {
        "health": {"status": "Healthy"},
        "sync": {"status": sync},
        "conditions": conditions,
    }
    if phase:
        status["operationState"] = {"phase": phase, "message": "what Argo CD says"}
    return health(_APPLICATION, status=status)


def job(condition: str = "", **details: str) -> tuple[str, str]:
    conditions = [{"type": condition, "status": "True", **details}] if condition else []
    return health(_JOB, status={"conditions": conditions})


def test_the_checks_are_those_of_the_kinds_that_waves_and_people_wait_for() -> None:
    assert set(scripts()) == {_APPLICATION, _JOB, _CRON_JOB}


def test_a_wave_waits_until_an_application_is_synced_for_the_first_time() -> None:
    # An Application of namespaces is healthy before they exist: namespaces have no health.
    assert health(_APPLICATION)[0] == "Progressing"
    assert application(sync="OutOfSync")[0] == "Progressing"
    assert application(sync="OutOfSync", phase="Running") == ("Progressing", "what Argo CD says")
    assert application(phase="Succeeded")[0] == "Healthy"


def test_an_application_that_adopts_what_is_synced_already_does_not_hold_up_a_wave() -> None:
    assert application(sync="Synced")[0] == "Healthy"


def test_an_object_that_is_not_pruned_does_not_hold_up_a_wave() -> None:
    assert application(sync="OutOfSync", phase="Succeeded")[0] == "Healthy"


@pytest.mark.parametrize("status", ["Degraded", "Missing", "Suspended", "Progressing"])
def test_a_synced_application_has_the_health_of_its_objects(status: str) -> None:
    status_of_objects = {
        "health": {"status": status, "message": "why"},
        "operationState": {"phase": "Succeeded"},
    }
    assert health(_APPLICATION, status=status_of_objects) == (status, "why")


@pytest.mark.parametrize("phase", ["Failed", "Error"])
def test_a_failed_sync_is_degraded_with_its_reason(phase: str) -> None:
    assert application(phase=phase) == ("Degraded", "what Argo CD says")


@pytest.mark.parametrize("condition", ["ComparisonError", "InvalidSpecError"])
def test_a_commit_that_cannot_be_rendered_is_degraded_with_its_reason(condition: str) -> None:
    broken = [{"type": condition, "message": "the values are wrong"}]

    assert application(phase="Succeeded", sync="Unknown", conditions=broken) == (
        "Degraded",
        "the values are wrong",
    )


def test_a_warning_does_not_degrade_an_application() -> None:
    warning = [{"type": "OrphanedResourceWarning", "message": "one orphan"}]

    assert application(phase="Succeeded", conditions=warning)[0] == "Healthy"


def test_a_failed_job_is_degraded_with_the_reason_and_the_commands() -> None:
    assert job("Failed", message="it reached its limit", reason="BackoffLimitExceeded") == (
        "Degraded",
        "the Job etl failed: it reached its limit. Read its log: kubectl --namespace ns logs "
        "job/etl. To try again, delete it: kubectl --namespace ns delete job etl",
    )
    assert "DeadlineExceeded" in job("Failed", reason="DeadlineExceeded")[1]


def test_the_health_of_a_job_follows_its_conditions() -> None:
    assert health(_JOB)[0] == "Progressing"
    assert job()[0] == "Progressing"
    assert job("FailureTarget")[0] == "Progressing"
    assert job("Complete")[0] == "Healthy"
    assert job("Suspended")[0] == "Suspended"


def test_a_resumed_job_is_not_suspended() -> None:
    conditions = [{"type": "Suspended", "status": "False"}, {"type": "Complete", "status": "True"}]
    assert health(_JOB, status={"conditions": conditions})[0] == "Healthy"


@pytest.mark.parametrize("succeeded", [{}, {"lastSuccessfulTime": "2026-01-01T11:55:30Z"}])
def test_a_cron_job_whose_last_job_failed_is_degraded_with_the_command(
    succeeded: Mapping[str, str],
) -> None:
    assert health(_CRON_JOB, status={"lastScheduleTime": _NOON, **succeeded}) == (
        "Degraded",
        f"the last Job of the CronJob etl, of {_NOON}, failed. Find it: "
        "kubectl --namespace ns get jobs. Then read its log",
    )


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"lastScheduleTime": _NOON, "lastSuccessfulTime": _LATER},
        {"lastScheduleTime": _NOON, "active": [{"name": "etl-1"}]},
    ],
    ids=["never scheduled", "succeeded", "running"],
)
def test_a_cron_job_without_a_failure_is_healthy(status: Mapping[str, object]) -> None:
    assert health(_CRON_JOB, status=status)[0] == "Healthy"


def test_a_suspended_cron_job_is_healthy() -> None:
    assert health(_CRON_JOB, spec={"suspend": True})[0] == "Healthy"
