"""The processor time and the memory of a kind node, divided among the parts of the cluster."""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from statistics import mean
from typing import Any

from kubernetes import client as kubernetes_client

from bench.control_groups import ControlGroups, uid_of
from prefect_platform_cli.kube.kubectl import Kubectl

BARE = "prefect-platform-bench"
"""The label of the pods of bare Jobs."""
_JOB = "batch.kubernetes.io/job-name"
_OF_JOBS = ("prefect.io/flow-run-id", BARE)
_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY = 0.5  # seconds between two looks at the pods, whose control groups end with them
_MIB = 2**20


class Part(StrEnum):
    """A part of the cluster."""

    JOBS = "job pods"
    API = "Prefect API"
    WORKER = "worker"
    DATABASE = "database"
    KUBE_APISERVER = "kube-apiserver"
    ETCD = "etcd"
    KUBELET = "kubelet"
    CONTAINERD = "containerd, shims, the rest of the node"
    REST = "other pods"


_BY_LABEL = {
    ("app.kubernetes.io/component", "api"): Part.API,
    ("app.kubernetes.io/component", "worker"): Part.WORKER,
    ("app.kubernetes.io/component", "database"): Part.DATABASE,
    ("component", "kube-apiserver"): Part.KUBE_APISERVER,
    ("component", "etcd"): Part.ETCD,
}


def part_of(labels: Mapping[str, str]) -> Part:
    """Return the part that a pod with these labels belongs to."""
    if _JOB in labels:  # the Jobs of CronJobs may have the labels of a component
        return Part.JOBS if any(label in labels for label in _OF_JOBS) else Part.REST
    return next(
        (part for (key, value), part in _BY_LABEL.items() if labels.get(key) == value), Part.REST
    )


@dataclass(frozen=True)
class Reading:
    """The CPU-seconds so far, at one moment."""

    at: float
    pods: Mapping[str, float]
    """Of each pod by its uid, also of pods that are gone."""
    all_pods: float
    node: float
    kubelet: float
    machine: float
    """Of all processes of the machine."""
    parts: Mapping[str, Part] = field(default_factory=dict)
    """The parts of the pods by their uids, as far as they are known."""


def split(before: Reading, after: Reading) -> dict[Part, float]:
    """Return the CPU-seconds of each part between two readings.

    Job pods have what no other pod has used: their control groups are gone before anybody can read
    the last moments of all of them, but the group of all pods keeps what they used.
    """
    used = dict.fromkeys(Part, 0.0)
    for uid, seconds in after.pods.items():
        if (part := after.parts.get(uid, Part.JOBS)) is not Part.JOBS:
            used[part] += seconds - before.pods.get(uid, 0.0)
    pods = after.all_pods - before.all_pods
    used[Part.JOBS] = pods - sum(used.values())
    used[Part.KUBELET] = after.kubelet - before.kubelet
    used[Part.CONTAINERD] = after.node - before.node - pods - used[Part.KUBELET]
    return used


@dataclass(frozen=True)
class Idle:
    """What the cluster uses without runs."""

    rates: Mapping[Part, float]
    """CPU-seconds a second of each part."""
    memory: float
    """MiB of the pods in the namespaces of the set-up, on average; CronJobs included."""
    jobs: tuple[str, ...]
    """The Jobs that CronJobs have started meanwhile."""

    @property
    def cores(self) -> float:
        """Return the CPU-seconds a second of the whole cluster."""
        return sum(self.rates.values())


class Meter:
    """Reads the processor time and the memory of the only node of a kind cluster."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._core = kubernetes_client.CoreV1Api(kubectl.api())
        self._batch = kubernetes_client.BatchV1Api(kubectl.api())
        dns = self._core.list_namespaced_pod("kube-system", label_selector="k8s-app=kube-dns")
        self._groups = ControlGroups.with_pod(dns.items[0].metadata.uid)
        self._node = dns.items[0].spec.node_name
        self._kubelet = _kubelet(self._groups.pods.parent.parent.name)
        self._pods: dict[str, float] = {}
        self._parts: dict[str, Part] = {}
        self._lock = threading.Lock()
        self.least_memory = available_memory()
        """The least memory that the machine had available since this was last set, in bytes."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the pods during the block, so that those that end are not forgotten."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_EVERY):
                self._look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def read(self) -> Reading:
        """Return the CPU-seconds so far."""
        for pod in self._core.list_pod_for_all_namespaces().items:
            self._parts[uid_of(pod)] = part_of(pod.metadata.labels or {})
        self._look()
        with self._lock:
            pods = dict(self._pods)
        return Reading(
            at=time.monotonic(),
            pods=pods,
            all_pods=self._groups.of_all_pods(),
            node=self._groups.of_system() + self._groups.of_all_pods(),
            kubelet=_of_process(self._kubelet),
            machine=_of_machine(),
            parts=dict(self._parts),
        )

    def idle(self, seconds: float, namespaces: tuple[str, ...]) -> Idle:
        """Return what the cluster uses in the next seconds, and the memory of these namespaces."""
        began = datetime.now(UTC)
        before, memory = self.read(), []
        while (left := before.at + seconds - time.monotonic()) > 0:
            memory.append(self._memory(namespaces))
            time.sleep(min(5.0, left))
        after = self.read()
        duration = after.at - before.at
        rates = {part: used / duration for part, used in split(before, after).items()}
        jobs = [
            each.metadata.name
            for namespace in namespaces
            for each in self._batch.list_namespaced_job(namespace).items
            if each.metadata.creation_timestamp >= began
        ]
        return Idle(rates, mean(memory) / _MIB, tuple(jobs))

    def _memory(self, namespaces: tuple[str, ...]) -> int:
        """Return the bytes of the working sets of the pods in these namespaces."""
        text = self._kubectl("get", "--raw", f"/api/v1/nodes/{self._node}/proxy/stats/summary")
        summary: dict[str, Any] = json.loads(text)
        return sum(
            each.get("memory", {}).get("workingSetBytes", 0)
            for each in summary["pods"]
            if each["podRef"]["namespace"] in namespaces
        )

    def _look(self) -> None:
        found = self._groups.of_pods()
        with self._lock:
            for uid, seconds in found.items():
                self._pods[uid] = max(seconds, self._pods.get(uid, 0.0))
            self.least_memory = min(self.least_memory, available_memory())


def available_memory() -> int:
    """Return the bytes that programs of this machine can still use."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (line,) = [each for each in lines if each.startswith("MemAvailable:")]
    return int(line.split()[1]) * 1024


def _kubelet(group: str) -> Path:
    """Return the folder of the kubelet in /proc whose control group is below `group`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text() == "kubelet\n" and group in (
                folder / "cgroup"
            ).read_text():
                return folder
        except OSError:  # the process has ended meanwhile
            continue
    raise LookupError(f"no kubelet of this machine is in the control group {group}")


def _of_process(folder: Path) -> float:
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _of_machine() -> float:
    fields = [*map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])]
    idle, waiting, stolen = fields[3], fields[4], fields[7]
    # The time of guests is part of the time of their processes.
    return (sum(fields[:8]) - idle - waiting - stolen) / _TICKS
