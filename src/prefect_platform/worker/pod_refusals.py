"""Report on a flow run why Kubernetes refuses to create its pod.

A ResourceQuota, Pod Security or a LimitRange rejects the pod of a Job, not the Job itself. The
worker has then done its part, and only an Event of the Job contains the reason. This module adds a
handler to Prefect's observer that copies the reason to the run.
"""

import re
from collections import deque
from http import HTTPStatus
from typing import Any
from uuid import UUID

import kopf
from kubernetes_asyncio.client import BatchV1Api
from kubernetes_asyncio.client.exceptions import ApiException
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.logging.loggers import flow_run_logger
from prefect.states import Pending
from prefect.utilities.engine import propose_state
from prefect_kubernetes import observer  # type: ignore[import-untyped]

# A further name of a Pending state, beside Prefect's own Submitting and InfrastructurePending; the
# latter follows when there is a pod.
STATE = "PodRefused"

_FLOW_RUN_ID = "prefect.io/flow-run-id"
_REMEMBERED = 1000
# What precedes the reason. Kubernetes combines the events, because each attempt has a new pod name.
_PREFACE = re.compile(
    r"^(\(combined from similar events\): )?(Error creating: )?(pods? \"[^\"]*\" is \w+: )?", re.I
)
_USED = re.compile(r"used: \S+")


class PodRefusals:
    """A kopf handler that writes each reason for a refusal to the run's logs once.

    The first reason also becomes the message of the run's state PodRefused while the run is
    pending. Other workers, and a worker that has restarted, recognise by that state that the reason
    was already reported. The state holds only one reason, so every worker writes a second one.
    """

    def __init__(self) -> None:
        self._told: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        kopf.on.startup(id="events of refused pods")(self._configure)
        kopf.on.event("v1", "events", id="refused pods")(self.handle)

    def _configure(self, settings: kopf.OperatorSettings, **_: object) -> None:
        selector = "involvedObject.kind=Job,reason=FailedCreate"
        settings.watching.field_selectors["v1", "events"] = selector

    async def handle(self, event: kopf.RawEvent, **_: object) -> None:
        """Report the reason in `event`, a change of a core/v1 Event, on the run of its Job."""
        if event["type"] == "DELETED":
            return
        body: Any = event["object"]
        job, reason = body["involvedObject"], cause(body["message"])
        key = (job["uid"], distinct(reason))
        if key in self._told:
            return
        self._told.append(key)  # before any await: Events of one Job are handled concurrently
        told = False
        try:
            flow_run_id = await _waiting_run(job["namespace"], job["name"], job["uid"])
            if flow_run_id is not None:
                place = f"{job['namespace']}/{job['name']}"
                told = await _tell(
                    flow_run_id, f"Kubernetes refuses to create a pod for the Job {place}: {reason}"
                )
        finally:
            if not told and key in self._told:
                self._told.remove(key)


def cause(message: str) -> str:
    """Return the reason in the message of a FailedCreate event."""
    return _PREFACE.sub("", message)


def distinct(text: str) -> str:
    """Return the text without the used amount of a quota, which changes while the reason stays."""
    return _USED.sub("used: …", text)


async def _waiting_run(namespace: str, name: str, uid: str) -> UUID | None:
    """Return the flow run of the Job, or None if the Job is gone, replaced or has a pod by now.

    Kubernetes keeps an Event for an hour, so it may be outdated.
    """
    client = await observer._get_kubernetes_client()
    try:
        job = await BatchV1Api(client).read_namespaced_job(name, namespace)
    except ApiException as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    finally:
        await client.close()
    flow_run_id = (job.metadata.labels or {}).get(_FLOW_RUN_ID)
    outdated = job.metadata.uid != uid or job.status.active
    return None if outdated or flow_run_id is None else UUID(flow_run_id)


async def _tell(flow_run_id: UUID, sentence: str) -> bool:
    """Report on a pending run why it has no pod; return whether the run has the reason now."""
    async with get_client() as client:
        try:
            state = (await client.read_flow_run(flow_run_id)).state
        except ObjectNotFound:
            return False
        if state is None or not state.is_pending():
            return False
        if state.name == STATE and distinct(state.message or "") == distinct(sentence):
            return True
        if state.name != STATE and not await _accepted(client, flow_run_id, sentence):
            return False
    flow_run_logger(flow_run_id=flow_run_id).getChild("observer").warning("%s", sentence)
    return True


async def _accepted(client: PrefectClient, flow_run_id: UUID, sentence: str) -> bool:
    """Set the run to PodRefused and return whether the server accepted that.

    The server rejects it when the run has started or ended meanwhile, or another worker was faster.
    """
    try:
        state = await propose_state(client, Pending(name=STATE, message=sentence), flow_run_id)
    except (Abort, Pause):  # they derive from BaseException and would end the observer
        return False
    return state.name == STATE
