"""Report on a flow run why Kubernetes creates no pod for it.

A ResourceQuota, Pod Security or a LimitRange rejects the pod of a Job, not the Job itself. The
worker has then done its part, and only an Event of the Job contains the reason. This module adds a
handler to Prefect's observer that copies the reason to the run.
"""

import re
from http import HTTPStatus
from typing import Any
from uuid import UUID

import kopf
from kubernetes_asyncio.client import BatchV1Api
from kubernetes_asyncio.client.exceptions import ApiException
from prefect.client.orchestration import get_client
from prefect.logging.loggers import flow_run_logger
from prefect_kubernetes import observer  # type: ignore[import-untyped]

from prefect_platform import waiting_reasons
from prefect_platform.waiting_reasons import WaitingReason
from prefect_platform.worker.waiting_states import pending_state, propose

_FLOW_RUN_ID = "prefect.io/flow-run-id"
_REMEMBERED = 1000
_USED = re.compile(r"used: \S+")


class PodRefusals:
    """A kopf handler that reports a reason for a refusal on the run whenever the reason changes.

    The reason is written to the run's log. While the run is pending, the first reason of each kind
    also becomes its state. Other workers, and a worker that has restarted, recognise by that state
    that the reason was already reported. A state cannot be replaced by one of the same name, so
    every worker logs a further reason of the same kind.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, str]] = {}  # time and reason by the Job's uid
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
        job = body["involvedObject"]
        reason = waiting_reasons.of_refusal(f"{job['namespace']}/{job['name']}", body["message"])
        before = self._last.pop(job["uid"], ("", ""))
        now = (body.get("lastTimestamp") or "", distinct(reason.sentence))
        # A worker that starts receives the events of the last hour in any order.
        if now[0] < before[0] or now[1] == before[1]:
            self._last[job["uid"]] = max(now, before)
            return
        self._last[job["uid"]] = now  # before any await: Events of one Job are handled concurrently
        if len(self._last) > _REMEMBERED:
            self._last.pop(next(iter(self._last)))
        told = False
        try:
            flow_run_id = await _waiting_run(job["namespace"], job["name"], job["uid"])
            told = flow_run_id is not None and await _tell(flow_run_id, reason)
        finally:
            if not told and self._last.get(job["uid"]) == now:
                self._last[job["uid"]] = before


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


async def _tell(flow_run_id: UUID, reason: WaitingReason) -> bool:
    """Report on a pending run why it has no pod; return whether the run has the reason now."""
    async with get_client() as client:
        if (state := await pending_state(client, flow_run_id)) is None:
            return False
        if state.name == reason.state and distinct(state.message or "") == distinct(
            reason.sentence
        ):
            return True
        if state.name != reason.state and not await propose(client, flow_run_id, reason):
            return False
    flow_run_logger(flow_run_id=flow_run_id).getChild("observer").warning("%s", reason.sentence)
    return True
