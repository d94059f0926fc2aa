"""The automations that every platform has: what they watch, after how long, and what they say.

Each is written as the section `automations` of a platform file would have it. The names of events
and labels are Prefect's (prefect.server.models.events) and those of its Kubernetes observer
(prefect_kubernetes.observer, prefect_kubernetes.diagnostics).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning"]
Automation = dict[str, Any]

_RUN = "{{ flow_run.name or flow_run.id }}"
_LINK = "{% if flow_run|ui_url %}\n{{ flow_run|ui_url }}{% endif %}"
_LOGS = "\nmake logs RUN={{ flow_run.name }}"
_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_EACH = ["prefect.resource.id"]
# Whatever a run does next: a state of any name, or a heartbeat.
_ANY_SIGN = "prefect.flow-run.*"
_OVER = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled")]
_WAITING_AGAIN = [
    f"prefect.flow-run.{state}"
    for state in (
        "Scheduled",
        "Late",
        "AwaitingRetry",
        "AwaitingConcurrencySlot",
        "Paused",
        "Suspended",
        "PodRefused",
        "Cancelling",
    )
]
# One message for all runs of a deployment that have one cause at the same time.
_QUIET_SECONDS = 600
_PER_DEPLOYMENT = ["related:deployment:prefect.resource.id"]


@dataclass(frozen=True)
class Member:
    """An automation of the pack.

    `within` is its bound in seconds, None where it acts at once; `threshold` is the number of
    events that it takes, None where one is enough. `make` returns trigger and own actions for
    both. `subject` and `body` are the message, Jinja templates of Prefect's.
    """

    severity: Severity
    make: Callable[[int, int], Automation]
    subject: str
    body: str
    within: int | None = None
    threshold: int | None = None
    silent: bool = False
    """It acts and tells nobody: what it causes has an alert of its own."""


def _event(**trigger: object) -> Automation:
    return {"trigger": {"type": "event", **trigger}, "actions": []}


def _zombie(within: int, _threshold: int) -> Automation:
    made = _event(
        posture="Proactive",
        match=_RUNS,
        for_each=_EACH,
        after=["prefect.flow-run.heartbeat"],
        expect=[_ANY_SIGN],
        within=within,
    )
    # A run that is over keeps its state: the server refuses Crashed after an end, so the last
    # heartbeat of a short run, which may arrive after its end, does no harm.
    made["actions"] = [
        {
            "type": "change-flow-run-state",
            "state": "CRASHED",
            "message": f"No heartbeat for {within} s: the process of the run died without a word. "
            "Look at the events and the last log of its pod.",
        }
    ]
    return made


def _stuck_pending(within: int, _threshold: int) -> Automation:
    made = _event(
        posture="Proactive",
        match=_RUNS,
        for_each=_EACH,
        after=["prefect.flow-run.Pending"],
        expect=["prefect.flow-run.Running", *_OVER, *_WAITING_AGAIN],
        within=within,
    )
    made["actions"] = [
        {
            "type": "change-flow-run-state",
            "state": "CRASHED",
            "name": "Crashed",
            "message": f"Pending for {within} s and not started: its place in the work pool is "
            "free again. Look at the events of its Job: image, quota, or no node with room.",
        }
    ]
    return made


def _late(within: int, _threshold: int) -> Automation:
    return _event(
        posture="Proactive",
        match=_RUNS,
        for_each=_EACH,
        after=["prefect.flow-run.Late"],
        expect=[
            "prefect.flow-run.Pending",
            "prefect.flow-run.Running",
            "prefect.flow-run.AwaitingConcurrencySlot",
            "prefect.flow-run.Cancelling",
            "prefect.flow-run.Paused",
            "prefect.flow-run.Scheduled",
            *_OVER,
        ],
        within=within,
    )


def _crashed(_within: int, _threshold: int) -> Automation:
    return _event(
        posture="Reactive",
        match=_RUNS,
        for_each=_EACH,
        expect=["prefect.flow-run.Crashed"],
    )


def _diagnosed(diagnosis: str) -> Callable[[int, int], Automation]:
    """Return what fires once per deployment when a pod of it has this diagnosis."""

    def make(_within: int, _threshold: int) -> Automation:
        return _event(
            posture="Reactive",
            match={
                "prefect.resource.id": "prefect.kubernetes.pod.*",
                "kubernetes.diagnosis": diagnosis,
            },
            for_each=_PER_DEPLOYMENT,
            expect=["prefect.kubernetes.pod.*"],
            within=_QUIET_SECONDS,
        )

    return make


def _repeated_failure(within: int, threshold: int) -> Automation:
    return _event(
        posture="Reactive",
        match=_RUNS,
        match_related={
            "prefect.resource.role": "deployment",
            "prefect.resource.id": "prefect.deployment.*",
        },
        for_each=_PER_DEPLOYMENT,
        expect=["prefect.flow-run.Failed", "prefect.flow-run.Crashed"],
        threshold=threshold,
        within=within,
    )


def _pool_not_ready(within: int, _threshold: int) -> Automation:
    return _event(
        posture="Proactive",
        match={"prefect.resource.id": "prefect.work-pool.*"},
        for_each=_EACH,
        after=["prefect.work-pool.not-ready", "prefect.work-pool.paused"],
        expect=["prefect.work-pool.ready", "prefect.work-pool.deleted"],
        within=within,
    )


def _delivery_failed(_within: int, _threshold: int) -> Automation:
    return _event(
        posture="Reactive",
        # Not of this one: a dead channel would be told of its own death for ever.
        match={
            "prefect.resource.id": "prefect.automation.*",
            "prefect.resource.name": f"!{name('delivery-failed')}",
        },
        match_related={"prefect.resource.role": "block"},
        for_each=["related:block:prefect.resource.id"],
        expect=["prefect.automation.action.failed"],
        within=3600,
    )


_POD = (
    "The pod of the run " + _RUN + " of {{ flow.name }}: "
    "{{ event.resource['kubernetes.diagnosis'] }}"
    "{% if event.resource['kubernetes.reason'] %} ({{ event.resource['kubernetes.reason'] }})"
    "{% endif %}."
)
_POD_NEXT = (
    "\nkubectl --namespace {{ event.resource['kubernetes.namespace'] }} describe pod "
    "{{ event.resource['prefect.resource.name'] }}" + _LINK
)

PACK: Mapping[str, Member] = {
    "zombie": Member("critical", _zombie, "", "", within=90, silent=True),
    "stuck-pending": Member("critical", _stuck_pending, "", "", within=1800, silent=True),
    "crashed": Member(
        "critical",
        _crashed,
        f"{_RUN} crashed",
        f"The run {_RUN} of {{{{ flow.name }}}} crashed: {{{{ flow_run.state.message }}}}"
        f"{_LOGS}{_LINK}",
    ),
    "late": Member(
        "warning",
        _late,
        f"{_RUN} is late",
        f"The run {_RUN} of {{{{ flow.name }}}} is due since "
        "{{ flow_run.expected_start_time }} and no worker has taken it. "
        "Is its work pool paused or at its limit, is its worker up?"
        f"\nkubectl --namespace prefect-workers get pods{_LINK}",
        within=300,
    ),
    "image-pull": Member(
        "critical", _diagnosed("ImagePullError"), f"{_RUN}: no image", f"{_POD}{_POD_NEXT}"
    ),
    "out-of-memory": Member(
        "critical", _diagnosed("OOMKilled"), f"{_RUN}: out of memory", f"{_POD}{_POD_NEXT}"
    ),
    "unschedulable": Member(
        "warning", _diagnosed("Unschedulable*"), f"{_RUN}: no node has room", f"{_POD}{_POD_NEXT}"
    ),
    "repeated-failure": Member(
        "critical",
        _repeated_failure,
        "{{ flow.name }}/{{ deployment.name }} fails again and again",
        f"The last of its failed runs is {_RUN}: {{{{ flow_run.state.message }}}}{_LOGS}{_LINK}",
        within=3600,
        threshold=3,
    ),
    "work-pool-not-ready": Member(
        "critical",
        _pool_not_ready,
        "work pool {{ work_pool.name }} is not ready",
        "The work pool {{ work_pool.name }} is {{ work_pool.status }}: no worker polls it, or "
        "somebody paused it. Its runs wait.\nkubectl --namespace prefect-workers get pods"
        "{% if work_pool|ui_url %}\n{{ work_pool|ui_url }}{% endif %}",
        within=120,
    ),
    "delivery-failed": Member(
        "critical",
        _delivery_failed,
        "a notification was not delivered",
        "{{ event.payload.reason }}\nAutomation: {{ event.resource['prefect.resource.name'] }}",
    ),
}


def name(member: str) -> str:
    """Return what an automation of the pack is called on the server."""
    return f"platform: {member}"
