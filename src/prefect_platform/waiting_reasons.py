"""Why a flow run waits for its pod, as names of Pending states.

They follow Prefect's own Submitting and InfrastructurePending. The worker sets them, the reaper
ends runs in some of them, the automation `stuck-pending` reports them, and `make status` shows
them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefect_platform.visible_text import visible

QUOTA = "WaitingForQuota"
ADMISSION = "WaitingForAdmission"
NODE = "WaitingForNode"
IMAGE = "WaitingForImage"
POD_REFUSED = "PodRefused"
IMAGE_MISSING = "ImageMissing"
CONFIG_MISSING = "ConfigMissing"

WITHOUT_NODE = (QUOTA, ADMISSION, NODE)
"""The states of runs whose pod is on no node yet."""

UNSTARTABLE = (POD_REFUSED, IMAGE_MISSING, CONFIG_MISSING)
"""The states of runs that do not start unless a person changes something."""

STATES = (QUOTA, ADMISSION, NODE, IMAGE, *UNSTARTABLE)

_LONGEST = 1000  # characters of a message that are shown
# What precedes the reason. Kubernetes combines the events, because each attempt has a new pod name.
_PREFACE = re.compile(
    r"^(\(combined from similar events\): )?(Error creating: )?(pods? \"[^\"]*\" is \w+: )?", re.I
)
_NO_ROOM = re.compile(r"\bexceeded quota: ")
# The API server's words for an answer of 403 or 422. Anything else, such as a webhook that does not
# answer, may end by itself.
_REFUSED = re.compile(r"\bis (forbidden|invalid): |\bdenied the request\b")
_REFUSED_FOR_NOW = re.compile(r"because it is being terminated|\bstatus unknown for quota: ")
_NOT_PULLED = ("ErrImagePull", "ImagePullBackOff")
_NEVER_PULLED = ("InvalidImageName", "ErrImageNeverPull")
# The words of containerd and CRI-O when a registry answers that it does not have the image. Other
# failures, such as a registry that is away or refuses the login, may end by themselves.
_NOT_IN_REGISTRY = re.compile(r": not found\b|\bmanifest unknown\b")
_NO_CONFIG = re.compile(r"^(secret|configmap) \"[^\"]*\" not found|^couldn't find key ", re.I)


@dataclass(frozen=True)
class WaitingReason:
    """The name of a state, and the sentence that is its message."""

    state: str
    sentence: str


def of_refusal(job: str, message: str) -> WaitingReason:
    """Return why the Job `job` has no pod; `message` is that of its last FailedCreate event."""
    cause = _shown(_PREFACE.sub("", message))
    if _NO_ROOM.search(message):
        return WaitingReason(QUOTA, f"The Job {job} waits for room in its quota: {cause}")
    if _REFUSED.search(message) and not _REFUSED_FOR_NOW.search(message):
        sentence = f"Kubernetes refuses to create a pod for the Job {job}: {cause}"
        return WaitingReason(POD_REFUSED, sentence)
    return WaitingReason(
        ADMISSION, f"Kubernetes cannot create a pod for the Job {job} yet: {cause}"
    )


def of_pod(pod: str, status: Mapping[str, Any]) -> WaitingReason | None:
    """Return why the pod `pod` does not start, or None when it has started or is about to.

    `status` is its status as the API server sends it.
    """
    if status.get("phase") != "Pending":
        return None
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            cause = _shown(condition.get("message", ""))
            return WaitingReason(NODE, f"The pod {pod} waits for a node: {cause}")
    for reason, message in _waiting_containers(status):
        cause = _shown(message)
        not_there = reason in _NOT_PULLED and _NOT_IN_REGISTRY.search(message)
        if not_there or reason in _NEVER_PULLED:
            sentence = f"The image of the pod {pod} does not exist: {reason}: {cause}"
            return WaitingReason(IMAGE_MISSING, sentence)
        if reason in _NOT_PULLED:
            return WaitingReason(IMAGE, f"The pod {pod} waits for its image: {reason}: {cause}")
        if reason == "CreateContainerConfigError" and _NO_CONFIG.search(message):
            sentence = f"The pod {pod} needs a Secret or ConfigMap that does not exist: {cause}"
            return WaitingReason(CONFIG_MISSING, sentence)
    return None


def _waiting_containers(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the reason and the message of each container that waits."""
    for key in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(key) or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            yield waiting.get("reason", ""), waiting.get("message", "")


def _shown(message: str) -> str:
    """Return a message, which may contain the words of a registry, as part of one line."""
    return " ".join(visible(message[:_LONGEST]).split())
