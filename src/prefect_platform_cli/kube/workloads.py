"""Find the workloads that are not ready, and why."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from kubernetes import client

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_while

_QUIET = ("ContainerCreating", "PodInitializing")
_SERVING = ("ReplicaSet", "StatefulSet")
_LAST_LINES = 5


@dataclass(frozen=True)
class Unready:
    """A workload or pod that is not ready, and the reason that Kubernetes gives."""

    namespace: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} in {self.namespace}: {self.reason}"


def unready_pods(
    api: client.ApiClient,
    namespace: str,
    selector: str = "",
    *,
    of: Container[str] = (),
    with_logs: bool = False,
) -> list[Unready]:
    """Return the pods of `namespace` that are neither ready nor succeeded.

    `of` limits them to pods that are kept running by an owner of one of these kinds. If `with_logs`
    is set, the reason of a failed pod ends with the last lines of its log.
    """
    core = client.CoreV1Api(api)
    pods = core.list_namespaced_pod(namespace, label_selector=selector).items
    unready = [
        pod
        for pod in pods
        if pod.status.phase != "Succeeded"
        and not _is_ready(pod)
        and (not of or _is_kept_by(of, pod))
    ]
    if not unready:
        return []
    warnings = {
        event.involved_object.name: event.message
        for event in core.list_namespaced_event(namespace, field_selector="type=Warning").items
    }
    return [
        Unready(
            namespace,
            f"pod/{pod.metadata.name}",
            _pod_reason(pod, warnings) + (_last_log_lines(core, pod) if with_logs else ""),
        )
        for pod in unready
    ]


def unready_workloads(api: client.ApiClient, namespace: str, selector: str) -> list[Unready]:
    """Return the Deployments and StatefulSets that are not ready, and the incomplete Jobs.

    A Deployment or StatefulSet is ready when all pods of its current version are. The Jobs of a
    CronJob are left out, because its next Job makes up for a failed one.
    """
    apps, batch = client.AppsV1Api(api), client.BatchV1Api(api)
    found = []
    for kind, listed in (
        ("deployment", apps.list_namespaced_deployment),
        ("statefulset", apps.list_namespaced_stateful_set),
    ):
        for item in listed(namespace, label_selector=selector).items:
            wanted, ready = item.spec.replicas, item.status.ready_replicas or 0
            current = (
                item.status.observed_generation == item.metadata.generation
                and (item.status.updated_replicas or 0) == wanted
                and (item.status.replicas or 0) == wanted
            )
            if not current or ready != wanted:
                reason = (
                    f"{ready} of {wanted} ready"
                    if current
                    else "the new version is still rolling out"
                )
                found.append(Unready(namespace, f"{kind}/{item.metadata.name}", reason))
    for job in batch.list_namespaced_job(namespace, label_selector=selector).items:
        conditions = {c.type: c for c in job.status.conditions or [] if c.status == "True"}
        if "Complete" not in conditions and not _is_kept_by(("CronJob",), job):
            failed = conditions.get("Failed")
            reason = f"failed: {failed.message}" if failed else "still running"
            found.append(Unready(namespace, f"job/{job.metadata.name}", reason))
    return found


def wait_until_ready(
    api: client.ApiClient, namespace: str, selector: str, *, within: float
) -> None:
    """Wait until all workloads of `selector` are ready; PlatformError after `within` seconds."""

    def unready() -> list[Unready]:
        # Check the pods too: after the machine has restarted, a workload's status is outdated
        # until a controller manager has been elected again.
        return unready_workloads(api, namespace, selector) or unready_pods(
            api, namespace, selector, of=_SERVING
        )

    if left := wait_while(unready, within, every=1):
        causes = unready_pods(api, namespace, selector, with_logs=True) or left
        raise PlatformError(
            f"not ready after {within:.0f} s: " + "; ".join(str(cause) for cause in causes),
            next_step=f"make status, or kubectl --namespace {namespace} get events",
        )


def _is_ready(pod: client.V1Pod) -> bool:
    conditions = pod.status.conditions or []
    return any(c.type == "Ready" and c.status == "True" for c in conditions)


def _is_kept_by(kinds: Container[str], item: client.V1Pod | client.V1Job) -> bool:
    owners = item.metadata.owner_references or []
    return item.metadata.deletion_timestamp is None and any(own.kind in kinds for own in owners)


def _pod_reason(pod: client.V1Pod, warnings: Mapping[str, str]) -> str:
    """Return the reason in the pod's status, else the last warning about it or its claims."""
    claims = [
        volume.persistent_volume_claim.claim_name
        for volume in pod.spec.volumes or []
        if volume.persistent_volume_claim
    ]
    warned = [warnings[name] for name in (*claims, pod.metadata.name) if name in warnings]
    return next(chain(_pod_reasons(pod), warned), f"phase {pod.status.phase}")


def _last_log_lines(core: client.CoreV1Api, pod: client.V1Pod) -> str:
    """Return the last lines of the log of each container that failed, or nothing."""
    printed = []
    for status in _statuses(pod):
        now, before = status.state.terminated, status.last_state.terminated
        if not any(ended and ended.exit_code != 0 for ended in (now, before)):
            continue
        try:
            log = core.read_namespaced_pod_log(
                pod.metadata.name,
                pod.metadata.namespace,
                container=status.name,
                previous=now is None,
                tail_lines=_LAST_LINES,
            )
        except client.ApiException:  # the node has removed the container
            continue
        printed += [f"\n  {status.name} | {line}" for line in log.splitlines()]
    return "".join(printed)


def _statuses(pod: client.V1Pod) -> list[client.V1ContainerStatus]:
    return [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]


def _pod_reasons(pod: client.V1Pod) -> Iterator[str]:
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            yield f"{condition.reason}: {condition.message}"
    statuses = _statuses(pod)
    for status in statuses:
        waiting, ended = status.state.waiting, status.state.terminated
        last = status.last_state.terminated
        if waiting and waiting.reason not in _QUIET:
            before = f", last exit code {last.exit_code} ({last.reason})" if last else ""
            yield f"{status.name}: {waiting.reason}: {waiting.message or ''}{before}"
        if ended and ended.exit_code != 0:
            yield f"{status.name}: ended with exit code {ended.exit_code} ({ended.reason})"
    for status in statuses:
        if not status.ready and not status.state.terminated:
            yield f"{status.name} has started but is not ready yet"
