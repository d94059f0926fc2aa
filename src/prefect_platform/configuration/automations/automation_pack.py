"""The automations that every platform has: what they watch, for how long, and what they send.

Each is written like an entry of the section `automations` in a platform file. Prefect evaluates
triggers in prefect.server.events.triggers. The names of events and labels come from
prefect.server.models.events, prefect.flow_engine, prefect_kubernetes.observer and
prefect_kubernetes.diagnostics. The tests run the automations on a server of the pinned version.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prefect_platform import waiting_reasons

Severity = Literal["critical", "warning"]
Automation = dict[str, Any]

_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_PODS = {"prefect.resource.id": "prefect.kubernetes.pod.*"}
_OF_A_DEPLOYMENT = {"prefect.resource.role": "deployment"}
_EACH = ["prefect.resource.id"]
_EACH_DEPLOYMENT = ["related:deployment:prefect.resource.id"]
# Pods of runs without a deployment are grouped by their flow.
_EACH_DEPLOYMENT_OR_FLOW = [*_EACH_DEPLOYMENT, "related:flow:prefect.resource.id"]
_ANY_SIGN = ["prefect.flow-run.*"]
# States on the way to Running, set by the worker and by its observer.
_PENDING = [
    f"prefect.flow-run.{state}"
    for state in ("Pending", "Submitting", "InfrastructurePending", *waiting_reasons.STATES)
]
# The events that start the timer are also expected, here and above. Otherwise Prefect would not
# restart the timer of a pool that comes and goes, as long as it remembers the last expected event.
_WAITING = ["prefect.work-pool.not-ready", "prefect.work-pool.paused"]
# Limits messages: a missing image would otherwise cause one for each run of a deployment.
_QUIET_SECONDS = 600
_QUIET_CHANNEL_SECONDS = 3600


@dataclass(frozen=True)
class Bounds:
    """`within` is a number of seconds; `threshold` is a number of events within them."""

    within: int
    threshold: int


@dataclass(frozen=True)
class Message:
    """The text for channels, as Prefect templates; the subject gets the severity as a prefix."""

    subject: str
    body: str


@dataclass(frozen=True)
class Member:
    """An entry of the pack.

    `automation` returns the automation for the chosen bounds, without actions: none acts on a run.
    `message` is sent to the channels of the severity whenever it fires. `within` and `threshold`
    are the default bounds, None where there is nothing to choose.
    """

    severity: Severity
    automation: Callable[[Bounds], Automation]
    message: Callable[[Bounds], Message]
    within: int | None = None
    threshold: int | None = None


def name(member: str) -> str:
    """Return the name of the member's automation on the server."""
    return f"platform: {member}"


def _automation(description: str, trigger: Automation) -> Automation:
    return {"description": description, "trigger": {"type": "event", **trigger}}


def _zombie(bounds: Bounds) -> Automation:
    # It only notifies. Heartbeats alone do not tell a dead run from one that computes or whose
    # events were lost, and Prefect also takes one that arrives after the end of its run for the
    # last sign of life. So the reaper decides, which also reads the run's state and its Job.
    return _automation(
        "A run is Running but sends no heartbeats, and nothing shows that its container has ended; "
        f"reported at most once per run in {bounds.within} s.",
        {
            "posture": "Reactive",
            "match": _RUNS,
            "for_each": _EACH,
            "expect": ["prefect-platform.reaper.silent-run"],
            "within": bounds.within,
        },
    )


def _stuck_pending(bounds: Bounds) -> Automation:
    # It only notifies: a run that waits for room starts when other runs end. An event does not tell
    # whether the reason lasts, so the reaper decides, which also reads the Job and its pod.
    return _automation(
        f"A run has been pending for {bounds.within} s without any progress.",
        {
            "posture": "Proactive",
            "match": _RUNS,
            "match_related": _OF_A_DEPLOYMENT,
            "for_each": _EACH,
            "after": _PENDING,
            "expect": _ANY_SIGN,
            "within": bounds.within,
        },
    )


def _late(bounds: Bounds) -> Automation:
    return _automation(
        f"A run has been late for {bounds.within} s, and no worker has picked it up.",
        {
            "posture": "Proactive",
            "match": _RUNS,
            "for_each": _EACH,
            "after": ["prefect.flow-run.Late"],
            "expect": _ANY_SIGN,
            "within": bounds.within,
        },
    )


def _crashed(_bounds: Bounds) -> Automation:
    return _automation(
        "A run of a deployment crashed.",
        {
            "posture": "Reactive",
            "match": {**_RUNS, "prefect.state-type": "CRASHED"},
            "match_related": _OF_A_DEPLOYMENT,
            "for_each": _EACH,
            "expect": _ANY_SIGN,
        },
    )


def _no_slot(bounds: Bounds) -> Automation:
    return _automation(
        "A run of a deployment was cancelled because other runs held all slots of the deployment; "
        f"reported at most once per deployment in {bounds.within} s.",
        {
            "posture": "Reactive",
            "match": {
                **_RUNS,
                "prefect.state-type": "CANCELLED",
                # Prefect's two messages, for a run that has no Job yet and for one that has.
                "prefect.state-message": "Deployment concurrency *",
            },
            "match_related": _OF_A_DEPLOYMENT,
            "for_each": _EACH_DEPLOYMENT,
            "expect": _ANY_SIGN,
            "within": bounds.within,
        },
    )


def _diagnosed(diagnosis: str) -> Callable[[Bounds], Automation]:
    def automation(_bounds: Bounds) -> Automation:
        return _automation(
            f"A pod of a run has the diagnosis {diagnosis}; reported at most once per "
            f"deployment in {_QUIET_SECONDS} s.",
            {
                "posture": "Reactive",
                "match": {**_PODS, "kubernetes.diagnosis": diagnosis},
                "for_each": _EACH_DEPLOYMENT_OR_FLOW,
                "expect": ["prefect.kubernetes.pod.*"],
                "within": _QUIET_SECONDS,
            },
        )

    return automation


def _repeated_failure(bounds: Bounds) -> Automation:
    return _automation(
        f"{bounds.threshold} runs of a deployment failed or crashed within {bounds.within} s.",
        {
            "posture": "Reactive",
            "match": {**_RUNS, "prefect.state-type": ["FAILED", "CRASHED"]},
            "match_related": _OF_A_DEPLOYMENT,
            "for_each": _EACH_DEPLOYMENT,
            "expect": _ANY_SIGN,
            "threshold": bounds.threshold,
            "within": bounds.within,
        },
    )


def _work_pool_not_ready(bounds: Bounds) -> Automation:
    return _automation(
        f"A work pool has had no worker, or has been paused, for {bounds.within} s.",
        {
            "posture": "Proactive",
            "match": {"prefect.resource.id": "prefect.work-pool.*"},
            "for_each": _EACH,
            "after": _WAITING,
            "expect": [*_WAITING, "prefect.work-pool.ready", "prefect.work-pool.deleted"],
            "within": bounds.within,
        },
    )


def _delivery_failed(_bounds: Bounds) -> Automation:
    return _automation(
        "A notification could not be delivered; reported at most once per channel in "
        f"{_QUIET_CHANNEL_SECONDS} s.",
        {
            "posture": "Reactive",
            # Exclude its own failures: a dead channel would be notified of itself forever.
            "match": {
                "prefect.resource.id": "prefect.automation.*",
                "prefect.resource.name": f"!{name('delivery-failed')}",
            },
            "match_related": {"prefect.resource.role": "block"},
            "for_each": ["related:block:prefect.resource.id"],
            "expect": ["prefect.automation.action.failed"],
            "within": _QUIET_CHANNEL_SECONDS,
        },
    )


_RUN = "{{ flow_run.name or event.resource.name }}"
_WHOSE = "{{ flow.name }}{% if deployment %}/{{ deployment.name }}{% endif %}"
_CAUSE = "{{ event.resource['prefect.state-message'] or 'its state gives no reason' }}"
# The server knows its public address only if the value publicUrl is set.
_LINK = "{% if flow_run|ui_url %}\n{{ flow_run|ui_url }}{% endif %}"
_OBJECTS = (
    "kubectl describe jobs,pods --all-namespaces --selector prefect.io/flow-run-id="
    "{{ flow_run.id }}"
)
_POOL_NAME = "{{ event.resource.name }}"
_WORKERS = (
    "kubectl get pods --all-namespaces --selector "
    "app.kubernetes.io/name=prefect-worker,app.kubernetes.io/component=worker"
)


def _pod_message(what: str, subject: str) -> Callable[[Bounds], Message]:
    body = (
        f"A pod of the run {_RUN} of {_WHOSE} {what} "
        "({{ event.resource['kubernetes.diagnosis'] }}). See the run's log for details.\n"
        "kubectl --namespace {{ event.resource['kubernetes.namespace'] }} describe pod "
        f"{{{{ event.resource.name }}}}{_LINK}"
    )
    return lambda _bounds: Message(f"{_RUN}: {subject}", body)


def _crashed_message(_bounds: Bounds) -> Message:
    return Message(
        f"{_RUN} crashed",
        f"The run {_RUN} of {_WHOSE} crashed: {_CAUSE}\n{_OBJECTS}{_LINK}",
    )


def _late_message(_bounds: Bounds) -> Message:
    return Message(
        f"{_RUN} is late",
        f"The run {_RUN} of {_WHOSE} was due at {{{{ flow_run.expected_start_time }}}}, but no "
        "worker has picked it up: its work pool{% if work_pool %} {{ work_pool.name }}{% endif %} "
        f"is paused, has no free slot, or has no worker.\n{_WORKERS}{_LINK}",
    )


def _no_slot_message(_bounds: Bounds) -> Message:
    return Message(
        f"{_RUN} was cancelled",
        f"The run {_RUN} of {_WHOSE}, due at {{{{ flow_run.expected_start_time }}}}, was cancelled "
        "before it began, because other runs held all slots of the deployment: "
        f"{_CAUSE}\nprefect-platform limits {_WHOSE}{_LINK}",
    )


def _zombie_message(_bounds: Bounds) -> Message:
    return Message(
        f"{_RUN} sends no heartbeats",
        f"The run {_RUN} of {_WHOSE} {{{{ event.payload['reason'] }}}}. It may be computing, or "
        f"hang.\n{_OBJECTS}{_LINK}",
    )


def _stuck_message(bounds: Bounds) -> Message:
    return Message(
        f"{_RUN} does not start",
        f"The run {_RUN} of {_WHOSE} has been {{{{ event.resource['prefect.state-name'] }}}} for "
        f"{bounds.within} s: {_CAUSE}\n{_OBJECTS}{_LINK}",
    )


def _repeated_message(bounds: Bounds) -> Message:
    return Message(
        f"{_WHOSE} keeps failing",
        f"{bounds.threshold} runs of {_WHOSE} failed within {bounds.within} s. The last one is "
        f"{_RUN}: {_CAUSE}\n{_OBJECTS}{_LINK}",
    )


def _pool_message(bounds: Bounds) -> Message:
    paused = "event.event == 'prefect.work-pool.paused'"
    return Message(
        f"work pool {_POOL_NAME} is not ready",
        f"The work pool {_POOL_NAME} {{% if {paused} %}}has been paused{{% else %}}has had no "
        f"worker{{% endif %}} for {bounds.within} s, so its runs are waiting.\n{_WORKERS}"
        "{% if work_pool|ui_url %}\n{{ work_pool|ui_url }}{% endif %}",
    )


def _delivery_message(_bounds: Bounds) -> Message:
    return Message(
        "a notification was not delivered",
        "The automation {{ event.resource.name }} could not send a notification through the block "
        "{{ event.resource_in_role['block'].name }}: {{ event.payload['reason'] }}\n"
        "kubectl --namespace prefect logs --tail=-1 --prefix --selector "
        "'app.kubernetes.io/component in (api, services)'",
    )


PACK: Mapping[str, Member] = {
    "zombie": Member("warning", _zombie, _zombie_message, within=3600),
    "stuck-pending": Member("warning", _stuck_pending, _stuck_message, within=1800),
    "crashed": Member("critical", _crashed, _crashed_message),
    "late": Member("warning", _late, _late_message, within=300),
    "no-slot": Member("warning", _no_slot, _no_slot_message, within=3600),
    "image-pull": Member(
        "critical",
        _diagnosed("ImagePullError"),
        _pod_message("cannot pull its image", "cannot pull the image"),
    ),
    "out-of-memory": Member(
        "critical",
        _diagnosed("OOMKilled"),
        _pod_message("was killed because it exceeded its memory limit", "out of memory"),
    ),
    "unschedulable": Member(
        "warning",
        _diagnosed("Unschedulable*"),
        _pod_message("cannot be scheduled: no node has room for it", "no node has room"),
    ),
    "repeated-failure": Member(
        "critical", _repeated_failure, _repeated_message, within=3600, threshold=3
    ),
    "work-pool-not-ready": Member("critical", _work_pool_not_ready, _pool_message, within=300),
    "delivery-failed": Member("critical", _delivery_failed, _delivery_message),
}
