"""Limit how often a run whose pod was evicted is started again.

Whenever a pod is stopped, Prefect's process in it reschedules the run, and a worker starts it as if
for the first time. That is right for a drained node, but it never ends for a run that fills its
disk. The worker keeps no state: it asks Kubernetes and the API at each start, so any worker may
start a run.
"""

import re
from contextlib import suppress
from uuid import UUID

import aiohttp
import anyio
import kopf
from kubernetes_asyncio.client import CoreV1Api, V1Pod
from kubernetes_asyncio.client.exceptions import ApiException
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.states import Crashed
from prefect.utilities.engine import propose_state
from prefect_kubernetes import observer  # type: ignore[import-untyped]

from prefect_platform import container

_FLOW_RUN_ID = "prefect.io/flow-run-id"
_JOB = "batch.kubernetes.io/job-name"
# The kubelet's wording when a volume, container or pod exceeds its own limit, as opposed to a node
# under pressure. Only the message tells the two apart: no condition does, because a pod that a node
# under pressure rejected has none either.
_OWN_LIMIT = re.compile(r"exceed(s|ed) (the|its) .*limit")
_ENDED = ("Succeeded", "Failed")
# Longer than the default grace period of 30 s, which a drained pod has; an evicted one has 1 s.
_ENDS_WITHIN = 40.0
_POLL_SECONDS = 1.0


def watch() -> None:
    """Register a handler with Prefect's observer that explains evictions to their runs."""
    kopf.on.event("v1", "pods", id="evicted pods")(_tell)


def own_excess(reason: str | None, message: str | None) -> bool:
    """Return whether a pod with this status was evicted because it exceeded its own limit."""
    return reason == "Evicted" and _OWN_LIMIT.search(message or "") is not None


def starts(states: list[State[None]]) -> int:
    """Return how often a run was started since it was created, or last ended or paused.

    `states` are all of its states, oldest first. A run that is retried after its end counts from
    zero. An attempt that the reaper has given back does not count, because it had no pod.
    """
    count, only_pending = 0, False
    for state in states:
        if state.is_final() or state.type == StateType.PAUSED:
            count = 0
        elif state.name == "Pending":  # the first state that a worker sets, once per start
            count, only_pending = count + 1, True
        elif not state.is_pending():
            count -= state.is_scheduled() and only_pending
            only_pending = False
    return count


async def refusal(client: PrefectClient, run: FlowRun, max_starts: int) -> str | None:
    """Return the message with which `run` ends instead of starting, or None if it may start.

    This worker must just have set `run` to Pending, so that no other worker starts it meanwhile.
    Raises httpx.HTTPError when the API does not return the states of the run.
    """
    if run.infrastructure_pid is None:
        return None  # never had a pod, as most runs at their start: save the request to the API
    count = starts(await client.read_flow_run_states(run.id))
    if count <= 1:
        return None
    namespace, _, job = run.infrastructure_pid.partition(":")
    pods = await _ended_pods(namespace, job)
    for pod in pods:
        if own_excess(pod.status.reason, pod.status.message):
            return _excess(f"{namespace}/{pod.metadata.name}", pod.status.message)
    if count <= max_starts:
        return None
    told = [f"pod {pod.metadata.name}: {pod.status.message or pod.status.phase}" for pod in pods]
    return (
        f"The run was started {max_starts} times, and each time its pod was stopped from outside. "
        f"The last Job was {namespace}/{job} ({'; '.join(told) or 'its pod is gone'}). "
        "Next step: look for nodes that are under pressure or drained with `kubectl describe "
        "nodes`, then start the run again. The value worker.maxStarts of the chart prefect-worker "
        "sets this limit."
    )


def _excess(pod: str, message: str) -> str:
    return (
        f"Kubernetes evicted the pod {pod} because it exceeded its own limit: {message.strip()} "
        "The run is not started again, because it would exceed the limit again. Next step: let "
        "the flow write less, or raise jobs.tmpSizeLimit of the chart prefect-worker, then start "
        "the run again."
    )


async def _ended_pods(namespace: str, job: str) -> list[V1Pod]:
    """Return the pods of a Job, after waiting up to `_ENDS_WITHIN` seconds for them to end.

    Only a pod that has ended says why.
    """
    pods: list[V1Pod] = []
    kubernetes = await observer._get_kubernetes_client()
    try:
        with anyio.move_on_after(_ENDS_WITHIN):
            while True:
                listed = await CoreV1Api(kubernetes).list_namespaced_pod(
                    namespace, label_selector=f"{_JOB}={job}"
                )
                pods = listed.items
                if all(pod.status.phase in _ENDED for pod in pods):
                    break
                await anyio.sleep(_POLL_SECONDS)
    except (ApiException, aiohttp.ClientError, TimeoutError) as error:
        # Starting once too often is better than not at all, and worker.maxStarts still applies.
        container.say(f"Cannot list the pods of the Job {namespace}/{job}: {error}")
    finally:
        await kubernetes.close()
    return pods


async def _tell(
    namespace: str | None, name: str, labels: kopf.Labels, status: kopf.Status, **_: object
) -> None:
    """Crash the run of an evicted pod that was killed before it could reschedule the run.

    Prefect's observer would crash it a moment later, with a message that names no cause.
    """
    run_id, job, message = labels.get(_FLOW_RUN_ID), labels.get(_JOB), status.get("message")
    if run_id is None or not own_excess(status.get("reason"), message):
        return
    # Prefect's signals derive from BaseException and would end the observer.
    with suppress(ObjectNotFound, Abort, Pause):
        async with get_client() as client:
            run = await client.read_flow_run(UUID(run_id))
            of_this_pod = run.infrastructure_pid == f"{namespace}:{job}"
            if of_this_pod and run.state is not None and run.state.is_running():
                sentence = _excess(f"{namespace}/{name}", str(message))
                await propose_state(client, Crashed(message=sentence), run.id)
