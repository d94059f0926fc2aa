"""Records what happens in the cluster during a trial."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.client import NOT_FOUND
from threading import Event

import httpx
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectHTTPStatusError

from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube import names
from tests.chaos.history import Pod, Slots
from tests.chaos.load import LIMIT
from tests.chaos.target import Target

RUN_ID = "prefect.io/flow-run-id"
_ACTIVE = "status.phase!=Succeeded,status.phase!=Failed"


class Recorder:
    """Records the pods of the trial's runs and the taken slots of its limit, every second."""

    def __init__(self, target: Target) -> None:
        self.pods: dict[str, Pod] = {}
        self.slots: list[Slots] = []
        self._target = target
        self._over = Event()
        self._begun = datetime.now(UTC)
        self._active: set[str] = set()

    @contextmanager
    def recording(self, threads: ThreadPoolExecutor) -> Iterator[None]:
        """Record in a thread during the block, and once more at its end."""
        recorder: Future[None] = threads.submit(self._record)
        try:
            yield
        finally:
            self._over.set()
            recorder.result()

    def _record(self) -> None:
        core = kubernetes_client.CoreV1Api(self._target.kubectl.api())
        with connected(self._target.kubectl) as prefect:
            while True:
                last = self._over.wait(1)
                # The last time, all pods are read: one may have lived between two readings.
                self._record_pods(core, None if last else _ACTIVE)
                with suppress(httpx.TransportError, PrefectHTTPStatusError):
                    self.slots.append(taken_slots(prefect))
                if last:
                    return

    def _record_pods(self, core: kubernetes_client.CoreV1Api, selector: str | None) -> None:
        pods = core.list_namespaced_pod(
            names.JOB_NAMESPACE, label_selector=RUN_ID, field_selector=selector
        ).items
        before, self._active = self._active, {pod.metadata.name for pod in pods}
        # Pods that have ended are read once, because a long trial leaves hundreds of them.
        for name in before - self._active:
            try:
                pods.append(core.read_namespaced_pod(name, names.JOB_NAMESPACE))
            except kubernetes_client.ApiException as error:
                if error.status != NOT_FOUND:
                    raise
        for pod in pods:
            for status in pod.status.container_statuses or ():
                if ran := status.state.terminated or status.state.running:
                    known = self.pods.get(pod.metadata.uid)
                    self.pods[pod.metadata.uid] = Pod(
                        name=pod.metadata.name,
                        run_id=pod.metadata.labels[RUN_ID],
                        # After its node has lost power, the kubelet no longer reports it.
                        started=ran.started_at or (known.started if known else self._begun),
                        ended=getattr(ran, "finished_at", None),
                    )


def taken_slots(prefect: SyncPrefectClient) -> Slots:
    """Return how many slots the API counts as taken now."""
    limit = prefect.read_global_concurrency_limit_by_name(LIMIT)
    return Slots(datetime.now(UTC), limit.active_slots)
