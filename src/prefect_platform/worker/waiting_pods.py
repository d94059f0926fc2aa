"""Report in the state of a flow run why its pod does not start.

Prefect's observer sets a run with a pod to InfrastructurePending, whatever the pod waits for. It
logs the reason, but only for some reasons, and the state does not say it.
"""

from uuid import UUID

import kopf
from prefect.client.orchestration import get_client

from prefect_platform import waiting_reasons
from prefect_platform.waiting_reasons import WaitingReason
from prefect_platform.worker.waiting_states import pending_state, propose

_FLOW_RUN_ID = "prefect.io/flow-run-id"
# The name and the message of the state that Prefect's observer sets.
_NO_REASON = WaitingReason("InfrastructurePending", "Kubernetes pod is pending.")


class WaitingPods:
    """A kopf handler that sets a pending run to the state of its pod's reason when that changes.

    Prefect's own handler of the same pod runs first, because it was registered first.
    """

    def __init__(self) -> None:
        # What was reported last, by the uid of a pod that has had a reason. A pod that starts
        # without waiting causes no request.
        self._last: dict[str, str] = {}
        kopf.on.event("v1", "pods", id="waiting pods")(self.handle)

    async def handle(
        self,
        *,
        event: kopf.RawEvent,
        namespace: str | None,
        name: str,
        uid: str,
        labels: kopf.Labels,
        status: kopf.Status,
        **_: object,
    ) -> None:
        """Report the reason in the status of a pod, or that there is no reason any more."""
        if event["type"] == "DELETED" or status.get("phase") != "Pending":
            self._last.pop(uid, None)
            return
        found = waiting_reasons.of_pod(f"{namespace}/{name}", status)
        reason = found or (_NO_REASON if uid in self._last else None)
        run_id = labels.get(_FLOW_RUN_ID)
        if reason is None or run_id is None or self._last.get(uid) == reason.state:
            return
        if await _tell(UUID(run_id), reason):
            self._last[uid] = reason.state


async def _tell(flow_run_id: UUID, reason: WaitingReason) -> bool:
    """Set a pending run to the state of `reason`; return whether it has that state now."""
    async with get_client() as client:
        if (state := await pending_state(client, flow_run_id)) is None:
            return False
        return state.name == reason.state or await propose(client, flow_run_id, reason)
