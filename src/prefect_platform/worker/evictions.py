"""Start a run whose pod was evicted again where that helps, and never without end.

Whoever stops a pod, Prefect's process in it schedules the run anew, and a worker starts it as if it
were the first time. That is right for a drained node, and endless for a run that fills its disk.
What counts is asked of Kubernetes and of the API at each start, so that workers may come and go.
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
# The kubelet's words for a volume, a container and a pod; those for a node in need are others. No
# condition tells the two apart: a pod that a node in need did not admit has none either.
_OWN_LIMIT = re.compile(r"exceed(s|ed) (the|its) .*limit")
_ENDED = ("Succeeded", "Failed")
# The kubelet gives an evicted pod one second; a drained one has the 30 s of every pod.
_ENDS_WITHIN = 40.0
_POLL_SECONDS = 1.0


def watch() -> None:
    """Let Prefect's observer tell the runs whose pod is evicted before it can schedule them."""
    kopf.on.event("v1", "pods", id="evicted pods")(_tell)


def own_excess(reason: str | None, message: str | None) -> bool:
    """Return whether a pod with this status was evicted for a limit of its own."""
    return reason == "Evicted" and _OWN_LIMIT.search(message or "") is not None


def starts(states: list[State[None]]) -> int:
    """Return how often a run was started since it was created, ended or paused.

    `states` are all its states, oldest first. Whoever runs it again after its end begins anew.
    """
    count = 0
    for state in states:
        if state.is_final() or state.type == StateType.PAUSED:
            count = 0
        elif state.name == "Pending":  # the worker's first, once for each start
            count += 1
    return count


async def refusal(client: PrefectClient, run: FlowRun, max_starts: int) -> str | None:
    """Return the sentence with which `run` ends instead of starting; None when it may start.

    `run` is one that this worker has just made Pending, which no other can do then. Raises
    httpx.HTTPError when the API does not tell its states.
    """
    if run.infrastructure_pid is None:
        return None  # no pod, no eviction: the API is not asked at the start of most runs
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
        f"The last one was of the Job {namespace}/{job} ({'; '.join(told) or 'its pod is gone'}). "
        "Next step: look for nodes in need or drained with `kubectl describe nodes`, then start "
        "the run again; worker.maxStarts of the chart prefect-worker is this bound."
    )


def _excess(pod: str, message: str) -> str:
    return (
        f"Kubernetes evicted the pod {pod} for its own excess: {message.strip()} The run is not "
        "started again, as it would do the same. Next step: let it write less, or raise "
        "jobs.tmpSizeLimit of the chart prefect-worker, then start the run again."
    )


async def _ended_pods(namespace: str, job: str) -> list[V1Pod]:
    """Return the pods of a Job; waits a while for their end, since only then they tell why."""
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
        # A start too many does less harm than none: worker.maxStarts still bounds them.
        container.say(f"Kubernetes does not list the pods of the Job {namespace}/{job}: {error}")
    finally:
        await kubernetes.close()
    return pods


async def _tell(
    namespace: str | None, name: str, labels: kopf.Labels, status: kopf.Status, **_: object
) -> None:
    """End the run of an evicted pod that was killed before it had scheduled it anew.

    Prefect's observer would end it too, a moment later, with a sentence that names no cause.
    """
    run_id, job, message = labels.get(_FLOW_RUN_ID), labels.get(_JOB), status.get("message")
    if run_id is None or not own_excess(status.get("reason"), message):
        return
    # Signals of Prefect, which are no Exceptions, would end the observer.
    with suppress(ObjectNotFound, Abort, Pause):
        async with get_client() as client:
            run = await client.read_flow_run(UUID(run_id))
            of_this_pod = run.infrastructure_pid == f"{namespace}:{job}"
            if of_this_pod and run.state is not None and run.state.is_running():
                sentence = _excess(f"{namespace}/{name}", str(message))
                await propose_state(client, Crashed(message=sentence), run.id)
