"""The load: runs of an empty flow, or bare Jobs, one every few seconds or all at once."""

import re
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from bench.comparison.figures import IMPORT, TRUE, Outcome, outcome
from bench.comparison.processor import BARE, available_memory
from bench.comparison.set_ups import EXECUTED, PrefectSetUp
from prefect_platform.polling import wait_until
from prefect_platform_cli.kube.kubectl import Kubectl

COMMANDS = {
    TRUE: ["sh", "-c", "date +%s.%N; exec /bin/true"],
    IMPORT: ["python", "-c", "import time, prefect.flow_engine; print(time.time())"],
}
"""The commands of bare Jobs. Each prints the moment at which it did what it is for."""
_RUN = "prefect.io/flow-run-id"
_PAGE = 200  # the limit of the API for one request
_AWAY = 300.0  # seconds for which a call is repeated while the API is away
_STUCK = 300.0  # seconds without a change of a run's state, after which none is expected
_LEFT = 1_500_000_000  # bytes that a burst has to leave available, for the rest of the machine
# What the API logs for an answer of 5xx, and clients for one that they got or that never came.
_FAULT = re.compile(
    r"Encountered exception in request|Server error '5\d\d|\" 5\d\d\b"
    r"|Connect(Error|Timeout)|Read(Error|Timeout)|All connection attempts failed"
)
_T = TypeVar("_T")


class _MemoryExhaustedError(Exception):
    """The runs would use up the memory of the machine."""


@dataclass
class Burst:
    """What happened in a burst."""

    outcome: Outcome
    drain: float | None
    """Seconds from the first creation to the last end; None if runs have not ended."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """Where an answer of the API was an error or missing, and how often."""
    exhausted: bool = False
    """Whether it was ended because it used up the memory of the machine."""


class Load(AbstractContextManager["Load"]):
    """Something that can be started at a steady pace or all at once."""

    @abstractmethod
    def latencies(self, count: int, every: float) -> list[float]:
        """Start one every few seconds; return the seconds from its creation to its code."""

    @abstractmethod
    def burst(self, count: int) -> Burst:
        """Start all at once, and wait until all have ended."""

    @abstractmethod
    def await_quiet(self) -> None:
        """Wait until no Job is active."""


class Runs(Load):
    """Flow runs of a set-up with a Prefect server."""

    def __init__(self, kubectl: Kubectl, set_up: PrefectSetUp) -> None:
        self._set_up = set_up
        self._core = kubernetes_client.CoreV1Api(kubectl.api())
        self._batch = kubernetes_client.BatchV1Api(kubectl.api())
        self._stack = ExitStack()
        self._failed_calls = 0

    def __enter__(self) -> Self:
        """Connect, deploy the flow, and check that a first run completes."""
        self._prefect: SyncPrefectClient = self._stack.enter_context(self._set_up.connected())
        self._deployment = self._set_up.deploy(self._prefect)
        (first,) = self._ended([self._create()])
        logs = self._logs([str(first.id)])[str(first.id)]
        if first.state_name != "Completed":
            raise RuntimeError(f"the first run of {self._set_up.name} is {first.state}: {logs}")
        self._set_up.check(logs)
        return self

    def __exit__(self, *error: object) -> None:
        """Disconnect."""
        self._stack.close()

    def latencies(self, count: int, every: float) -> list[float]:
        """Create one run every few seconds; return the seconds from its creation to Running."""
        created = _paced(self._create, count, every)
        ended = self._ended(created)
        return [
            (run.start_time - run.created).total_seconds()
            for run in ended
            if run.start_time and run.created
        ]

    def burst(self, count: int) -> Burst:
        """Create all runs at once, and wait until all have ended."""
        self._failed_calls, began = 0, time.time()
        ids = [self._create() for _ in range(count)]
        exhausted = False
        try:
            ended = self._ended(ids)
        except _MemoryExhaustedError:
            exhausted = True
            self._batch.delete_collection_namespaced_job(
                self._set_up.jobs,
                label_selector=_RUN,
                field_selector="status.successful=0",
                propagation_policy="Background",
            )
            ended = self._read(ids)
        ends = [run.end_time for run in ended if run.end_time]
        first = min(run.created for run in ended if run.created)
        all_ended = len(ends) == count and not exhausted
        states = {str(run.id): str(run.state_name) for run in ended}
        logs = self._logs(states)
        return Burst(
            outcome=outcome(states, {run: _executed(texts) for run, texts in logs.items()}),
            drain=(max(ends) - first).total_seconds() if all_ended else None,
            faults={
                "log of the API": self._api_faults(began),
                "job pods": sum(
                    bool(_FAULT.search(text)) for each in logs.values() for text in each
                ),
                "this benchmark": self._failed_calls,
            },
            exhausted=exhausted,
        )

    def await_quiet(self) -> None:
        """Wait until no Job is active."""
        _await_quiet(self._batch, self._set_up.jobs)

    def _create(self) -> str:
        run = self._call(lambda: self._prefect.create_flow_run_from_deployment(self._deployment))
        return str(run.id)

    def _ended(self, ids: Collection[str]) -> list[FlowRun]:
        """Wait until the runs have ended, or none has changed for long; return all of them.

        Raises _MemoryExhaustedError before they use up the memory of the machine.
        """
        known, changed = Counter[str | None](), time.monotonic()
        while time.monotonic() < changed + _STUCK:
            if available_memory() < _LEFT:
                raise _MemoryExhaustedError
            runs = self._read(ids)
            if all(run.state is not None and run.state.is_final() for run in runs):
                return runs
            if (states := Counter(run.state_name for run in runs)) != known:
                known, changed = states, time.monotonic()
            time.sleep(2)
        return self._read(ids)

    def _read(self, ids: Collection[str]) -> list[FlowRun]:
        every, found = [UUID(run) for run in ids], list[FlowRun]()
        for start in range(0, len(every), _PAGE):
            page = FlowRunFilter(id=FlowRunFilterId(any_=every[start : start + _PAGE]))
            read = partial(self._prefect.read_flow_runs, flow_run_filter=page, limit=_PAGE)
            found += self._call(read)
        return found

    def _call(self, call: Callable[[], _T]) -> _T:
        """Make a call, and repeat it while the API is away; count the calls that failed."""

        def is_away(error: BaseException) -> bool:
            away = isinstance(error, httpx.TransportError) or (
                isinstance(error, PrefectHTTPStatusError) and error.response.is_server_error
            )
            self._failed_calls += away
            return away

        return Retrying(
            retry=retry_if_exception(is_away),
            stop=stop_after_delay(_AWAY),
            wait=wait_fixed(1),
            reraise=True,
        )(call)

    def _logs(self, ids: Collection[str]) -> dict[str, list[str]]:
        """Return the logs of the pods of each run."""
        found: dict[str, list[str]] = {run: [] for run in ids}
        for pod in self._core.list_namespaced_pod(self._set_up.jobs, label_selector=_RUN).items:
            if (run := pod.metadata.labels[_RUN]) in found:
                found[run].append(_log(self._core, pod))
        return found

    def _api_faults(self, began: float) -> int:
        """Return the lines about errors in the logs of the API, and the restarts of its pods."""
        seconds = int(time.time() - began) + 1
        pods = self._core.list_namespaced_pod(
            self._set_up.api, label_selector="app.kubernetes.io/component=api"
        ).items
        texts = [_log(self._core, pod, since_seconds=seconds) for pod in pods]
        return sum(len(_FAULT.findall(text)) for text in texts)


class Jobs(Load):
    """Bare Jobs with one command, and the image of the flows."""

    def __init__(self, kubectl: Kubectl, namespace: str, image: str, command: list[str]) -> None:
        self._core = kubernetes_client.CoreV1Api(kubectl.api())
        self._batch = kubernetes_client.BatchV1Api(kubectl.api())
        self._namespace, self._image, self._command = namespace, image, command

    def __exit__(self, *error: object) -> None:
        """Release nothing: Jobs need no connection."""

    def latencies(self, count: int, every: float) -> list[float]:
        """Create one Job every few seconds; return the seconds from its creation to its code."""
        created = dict(_paced(self._create, count, every))
        self.await_quiet()
        return [moment - created[job] for job, moment in self._moments(created).items()]

    def burst(self, count: int) -> Burst:
        """Create all Jobs at once, and wait until all have ended."""
        created = dict(self._create() for _ in range(count))
        self.await_quiet()
        moments = self._moments(created)
        states = dict.fromkeys(created, "Missing") | dict.fromkeys(moments, "Completed")
        all_ended = len(moments) == count
        return Burst(
            outcome=outcome(states, dict.fromkeys(moments, 1)),
            drain=max(moments.values()) - min(created.values()) if all_ended else None,
        )

    def await_quiet(self) -> None:
        """Wait until no Job is active."""
        _await_quiet(self._batch, self._namespace)

    def _create(self) -> tuple[str, float]:
        """Create a Job; return its name, and when it was created."""
        container = {"name": "bare", "image": self._image, "args": self._command}
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [container],
        }
        template = {"metadata": {"labels": {BARE: ""}}, "spec": pod}
        created = time.time()
        job = self._batch.create_namespaced_job(
            self._namespace,
            {
                "metadata": {"generateName": "bare-"},
                "spec": {"backoffLimit": 0, "template": template},
            },
        )
        return job.metadata.name, created

    def _moments(self, created: Collection[str]) -> dict[str, float]:
        """Return the moment that each Job has printed."""
        found = {}
        for pod in self._core.list_namespaced_pod(self._namespace).items:
            job = pod.metadata.labels["batch.kubernetes.io/job-name"]
            if job in created and (text := _log(self._core, pod).strip()):
                found[job] = float(text)
        return found


def _paced(create: Callable[[], _T], count: int, every: float) -> list[_T]:
    """Call `create` once every few seconds."""
    began, made = time.monotonic(), []
    for number in range(count):
        time.sleep(max(0.0, began + number * every - time.monotonic()))
        made.append(create())
    return made


def _executed(texts: Collection[str]) -> int:
    lines = Counter(line.split()[0] for text in texts for line in text.splitlines() if line.strip())
    return lines[EXECUTED]


def _await_quiet(batch: Any, namespace: str) -> None:  # noqa: ANN401 - untyped client
    """Wait until no Job of the namespace is active, or for long."""

    def ended() -> bool:
        return not any(each.status.active for each in batch.list_namespaced_job(namespace).items)

    wait_until(ended, _STUCK, every=1)


def _log(core: Any, pod: Any, **options: int) -> str:  # noqa: ANN401 - untyped client
    """Return the log of a pod, an empty text if it has none."""
    try:
        text: bytes = core.read_namespaced_pod_log(
            pod.metadata.name, pod.metadata.namespace, _preload_content=False, **options
        ).data
    except kubernetes_client.ApiException:
        return ""
    return text.decode(errors="replace")
