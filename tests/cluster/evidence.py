"""A short summary of the state of the cluster, for the end of the output of a failed run.

Continuous integration keeps only the end of the output, without the long report of the test.
"""

import json
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from prefect_platform.errors import PlatformError
from prefect_platform_cli.kube import names

_LINES, _WIDTH = 25, 130
_WARNINGS = 8
_PODS_OF_RUNS = 3  # the newest ones, because tests leave others that failed on purpose

Ask = Callable[..., str]
"""kubectl, which raises PlatformError if it fails."""


def evidence(kubectl: Ask) -> list[str]:
    """Return pods not ready or restarted, the last line of their logs, and the latest warnings."""
    try:
        pods = _listed(kubectl, "pods")
        events = _listed(kubectl, "events", "--field-selector=type=Warning")
    except PlatformError as error:
        return _cut([f"the cluster does not answer: {error.message}"])
    newest = sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)
    of_runs = [pod for pod in newest if _namespace(pod) == names.JOB_NAMESPACE]
    others = [pod for pod in newest if _namespace(pod) != names.JOB_NAMESPACE]
    said = [list(_about(kubectl, pod)) for pod in others]
    said += islice(filter(None, (list(_about(kubectl, pod)) for pod in of_runs)), _PODS_OF_RUNS)
    warnings = [_warning(each) for each in sorted(events, key=_last_seen)[-_WARNINGS:]]
    about_pods = list(chain.from_iterable(said))
    return _cut([*about_pods[: _LINES - len(warnings)], *warnings])


def _listed(kubectl: Ask, kind: str, *options: str) -> list[dict[str, Any]]:
    """Return the objects of a kind in the namespaces of the platform."""
    found = json.loads(kubectl("get", kind, "--all-namespaces", "--output=json", *options))
    return [each for each in found["items"] if _namespace(each) in names.NAMESPACES]


def _namespace(item: dict[str, Any]) -> str:
    return str(item["metadata"]["namespace"])


def _about(kubectl: Ask, pod: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each container that is not well, and the last line of its log."""
    name, status = f"{_namespace(pod)}/{pod['metadata']['name']}", pod["status"]
    containers = [
        *status.get("initContainerStatuses", ()),
        *status.get("containerStatuses", ()),
    ]
    if not containers:
        conditions = status.get("conditions", ())
        why = [each["message"] for each in conditions if "message" in each]
        yield f"{name}: {status['phase']}: {'; '.join(why)}"
    for each in containers:
        restarts, state = each["restartCount"], _state(each)
        if restarts or state:
            yield f"{name} {each['name']}: {state or 'ready'}, restarts: {restarts}{_before(each)}"
            yield f"  | {_last_line(kubectl, pod, each['name'], previous=restarts > 0)}"


def _state(container: dict[str, Any]) -> str:
    """Return the state of a container, or nothing if it is ready or has succeeded."""
    states: dict[str, dict[str, Any]] = container["state"] or {"waiting": {}}
    state, details = next(iter(states.items()))
    if state == "running":
        return "" if container["ready"] else f"not ready, running since {details['startedAt']}"
    if state == "terminated":
        return _ended(details) if details["exitCode"] else ""
    return " ".join((details.get("reason", "waiting"), *details.get("message", "").split()))


def _before(container: dict[str, Any]) -> str:
    ended = container.get("lastState", {}).get("terminated")
    return f", last exit: {_ended(ended)}" if ended else ""


def _ended(details: dict[str, Any]) -> str:
    return f"{details.get('reason')} {details['exitCode']} at {details.get('finishedAt')}"


def _last_line(kubectl: Ask, pod: dict[str, Any], container: str, *, previous: bool) -> str:
    which = ("--previous",) if previous else ()
    log = ("logs", pod["metadata"]["name"], f"--container={container}", "--tail=1", *which)
    try:
        return kubectl(f"--namespace={_namespace(pod)}", *log).strip() or "has printed nothing"
    except PlatformError:
        return "has no log"


def _last_seen(event: dict[str, Any]) -> str:
    series = event.get("series") or {}
    seen = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next(filter(None, seen), event["metadata"]["creationTimestamp"]))


def _warning(event: dict[str, Any]) -> str:
    about = f"{_namespace(event)}/{event['involvedObject']['name']}"
    return f"{_last_seen(event)[11:19]} {about}: {event['reason']}: {event.get('message', '')}"


def _cut(lines: list[str]) -> list[str]:
    return [" ".join(line.split("\n"))[:_WIDTH] for line in lines]
