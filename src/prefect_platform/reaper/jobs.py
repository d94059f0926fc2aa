"""Read the Jobs and pods of flow runs in one namespace, and delete Jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from uuid import UUID

import aiohttp
from kubernetes_asyncio.client import (
    ApiClient,
    BatchV1Api,
    CoreV1Api,
    V1DeleteOptions,
    V1Job,
    V1Preconditions,
)
from kubernetes_asyncio.client.exceptions import ApiException

from prefect_platform import waiting_reasons
from prefect_platform.errors import PlatformError
from prefect_platform.reaper.pods import Pod, living

# Labels that the worker puts on each Job and its pod.
_FLOW_RUN_ID = "prefect.io/flow-run-id"
_WORK_POOL_ID = "prefect.io/work-pool-id"
_JOB_UID = "batch.kubernetes.io/controller-uid"  # Kubernetes' label of the pods of a Job
_PAGE = 500
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@dataclass(frozen=True)
class End:
    """How a Job has ended, according to its condition Complete or Failed."""

    succeeded: bool
    at: datetime
    cause: str


@dataclass(frozen=True)
class Job:
    """A Job that a worker has created for a flow run.

    `end` is None while the Job may still run pods. That includes a Job whose pod waits for a quota
    or a node, and one that is being deleted.
    """

    namespace: str
    name: str
    uid: str
    version: str
    flow_run_id: UUID
    work_pool_id: str
    created: datetime
    end: End | None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class FlowRunJobs:
    """The Jobs in `namespace` that have the label of a flow run; others are ignored.

    Each method raises PlatformError when Kubernetes refuses the request or does not answer.
    """

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._client = client
        self._api = BatchV1Api(client)
        self._core = CoreV1Api(client)

    async def all(self) -> list[Job]:
        """Return all Jobs of flow runs, from one consistent snapshot."""
        found: list[Job] = []
        token = ""
        while True:
            with self._explained("list"):
                # The token makes all pages show the state at the time of the first one.
                page = await self._api.list_namespaced_job(
                    self.namespace, label_selector=_FLOW_RUN_ID, limit=_PAGE, _continue=token
                )
            found += _jobs(page.items)
            if not (token := page.metadata._continue or ""):
                return found

    async def of_run(self, flow_run_id: UUID, name: str | None) -> list[Job]:
        """Return the Jobs of one run: those with its label, and the one named `name`.

        `name` is looked up because a Job may have lost its label, and the run would then seem to
        have no Job.
        """
        with self._explained("list"):
            labelled = await self._api.list_namespaced_job(
                self.namespace, label_selector=f"{_FLOW_RUN_ID}={flow_run_id}"
            )
        jobs = _jobs(labelled.items)
        if name is not None and name not in {job.name for job in jobs}:
            with self._explained("get"):
                try:
                    named = await self._api.read_namespaced_job(name, self.namespace)
                except ApiException as error:
                    if error.status != HTTPStatus.NOT_FOUND:
                        raise
                else:
                    jobs.append(_job(named, flow_run_id))
        return jobs

    async def pods_of_run(self, flow_run_id: UUID) -> list[Pod]:
        """Return the pods of one run that have not ended, whether their Job exists or not."""
        with self._explained("list", "pods"):
            labelled = await self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{_FLOW_RUN_ID}={flow_run_id}"
            )
        return living(labelled.items)

    async def waiting_reason(self, job: Job) -> waiting_reasons.WaitingReason | None:
        """Return why a Job has no pod, or why its pod does not start; None for no known reason."""
        with self._explained("list", "pods"):
            pods = await self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{_JOB_UID}={job.uid}"
            )
        if pods.items:
            reasons = [
                waiting_reasons.of_pod(
                    f"{self.namespace}/{pod.metadata.name}",
                    self._client.sanitize_for_serialization(pod.status),
                )
                for pod in pods.items
            ]
            return reasons[0] if len(reasons) == 1 else None
        with self._explained("list", "events"):
            events = await self._core.list_namespaced_event(
                self.namespace,
                field_selector=f"involvedObject.uid={job.uid},reason=FailedCreate",
            )
        if not events.items:
            return None
        last = max(
            events.items, key=lambda each: each.last_timestamp or each.metadata.creation_timestamp
        )
        return waiting_reasons.of_refusal(str(job), last.message)

    async def delete(self, job: Job) -> bool:
        """Delete `job` and its pods; return False when it has changed since it was read."""
        options = V1DeleteOptions(
            propagation_policy="Background",
            preconditions=V1Preconditions(uid=job.uid, resource_version=job.version),
        )
        with self._explained("delete"):
            try:
                await self._api.delete_namespaced_job(job.name, self.namespace, body=options)
            except ApiException as error:
                if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                    raise
                return False
        return True

    @contextmanager
    def _explained(self, verb: str, what: str = "Jobs") -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            raise PlatformError(
                f"Kubernetes refused to {verb} {what} in {self.namespace}: "
                f"{error.status} {error.reason}",
                next_step=f"kubectl --namespace {self.namespace} get rolebindings; the chart "
                "creates one for the reaper"
                if error.status in _REFUSED
                else f"kubectl --namespace {self.namespace} get jobs,pods",
            ) from error
        except (TimeoutError, aiohttp.ClientError) as error:
            raise PlatformError(
                f"The Kubernetes API does not answer ({error})",
                next_step="check the value networkPolicies.kubernetesApi of prefect-worker",
            ) from error


def _jobs(items: list[V1Job]) -> list[Job]:
    """Return the Jobs whose label is the id of a run; other values are not the worker's."""
    found = []
    for item in items:
        try:
            flow_run_id = UUID(item.metadata.labels[_FLOW_RUN_ID])
        except ValueError:
            continue
        found.append(_job(item, flow_run_id))
    return found


def _job(item: V1Job, flow_run_id: UUID) -> Job:
    metadata = item.metadata
    return Job(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        version=metadata.resource_version,
        flow_run_id=flow_run_id,
        work_pool_id=(metadata.labels or {}).get(_WORK_POOL_ID, ""),
        created=metadata.creation_timestamp,
        end=_end(item),
    )


def _end(item: V1Job) -> End | None:
    if item.metadata.deletion_timestamp is not None:
        return None  # its pods may still run
    for condition in item.status.conditions or []:
        if condition.type in ("Complete", "Failed") and condition.status == "True":
            words = [condition.type, condition.reason, condition.message]
            return End(
                succeeded=condition.type == "Complete",
                at=condition.last_transition_time,
                cause=": ".join(word for word in words if word),
            )
    return None
