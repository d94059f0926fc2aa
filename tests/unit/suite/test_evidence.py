"""What a failed test of the cluster leaves at the end of a run fits there, and names causes."""

import json
from collections.abc import Mapping
from typing import Any

from prefect_platform.errors import PlatformError
from tests.cluster.evidence import evidence

_READY = {"running": {"startedAt": "2026-12-01T04:00:00Z"}}
_KILLED = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-12-01T03:59:58Z"}


def pod(
    name: str,
    *,
    namespace: str = "prefect",
    restarts: int = 0,
    ready: bool = True,
    state: Mapping[str, Any] = _READY,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    container = {
        "name": "main",
        "restartCount": restarts,
        "ready": ready,
        "state": state,
        "lastState": {"terminated": before} if before else {},
    }
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": f"2026-12-01T03:00:{restarts:02}Z",
        },
        "status": {"phase": "Running", "containerStatuses": [container]},
    }


def warning(minute: int, message: str = "Back-off", namespace: str = "prefect") -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "creationTimestamp": "2026-12-01T03:00:00Z"},
        "involvedObject": {"name": "a-pod"},
        "lastTimestamp": f"2026-12-01T04:{minute:02}:00Z",
        "reason": "BackOff",
        "message": message,
    }


def shown(
    pods: list[dict[str, Any]], warnings: list[dict[str, Any]], log: str = "the last line"
) -> list[str]:
    """Return the evidence of a cluster with these pods and warnings."""

    def kubectl(*arguments: str) -> str:
        if "logs" in arguments:
            return f"{log} {'before' if '--previous' in arguments else 'now'}\n"
        return json.dumps({"items": pods if "pods" in arguments else warnings})

    return evidence(kubectl)


def test_only_containers_that_are_not_well_are_shown_with_the_last_line_of_their_log() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such\nimage"}}

    found = shown(
        [
            pod("is-well"),
            pod("elsewhere", namespace="kube-system", restarts=3),
            pod("has-restarted", restarts=2, before=_KILLED),
            pod("not-ready", ready=False),
            pod("has-no-image", ready=False, state=waiting),
        ],
        [],
    )

    assert found == [
        "prefect/has-restarted main: ready, restarts: 2, last exit: OOMKilled 137 at "
        "2026-12-01T03:59:58Z",
        "  | the last line before",
        "prefect/not-ready main: not ready, running since 2026-12-01T04:00:00Z, restarts: 0",
        "  | the last line now",
        "prefect/has-no-image main: ErrImagePull no such image, restarts: 0",
        "  | the last line now",
    ]


def test_a_pod_without_a_node_is_shown_with_the_reason() -> None:
    homeless = pod("homeless")
    homeless["status"] = {"phase": "Pending", "conditions": [{"message": "Insufficient cpu"}]}

    assert shown([homeless], []) == ["prefect/homeless: Pending: Insufficient cpu"]


def test_the_last_warnings_remain_when_many_pods_are_not_well() -> None:
    found = shown(
        [pod(f"pod-{number}", restarts=number) for number in range(1, 40)],
        [warning(minute, "x" * 500) for minute in reversed(range(20))],
    )

    assert len(found) == 25
    assert max(map(len, found)) <= 130
    assert found[0].startswith("prefect/pod-39 "), "the newest pod is shown first"
    assert [line[:8] for line in found[-8:]] == [f"04:{minute}:00" for minute in range(12, 20)]


def test_of_the_job_pods_that_failed_only_the_newest_are_shown() -> None:
    found = shown(
        [pod(f"run-{number}", namespace="flows-default", restarts=number) for number in range(9)],
        [],
    )

    assert [line.split()[0] for line in found[::2]] == [
        *("flows-default/run-8", "flows-default/run-7", "flows-default/run-6")
    ]


def test_a_cluster_that_does_not_answer_is_evidence_and_not_an_error() -> None:
    def kubectl(*_: str) -> str:
        raise PlatformError("kubectl get pods failed: connection refused", next_step="make status")

    (line,) = evidence(kubectl)

    assert line.startswith("the cluster does not answer: kubectl get pods failed")
