"""Show where the time between the creation of a flow run and its end goes, and what it costs.

`python -m bench.start_latency` needs a platform that `make deploy-cluster` created, whose cluster
CLUSTER_NAME names. Each round executes a run of an empty flow and two bare Jobs with its image and
resources: one of /bin/true, and one that imports Prefect's engine once. No run can be faster than
they are, so ratios to them can be compared between machines. A run is created `--every` seconds
after the last one, plus up to as many seconds as the worker has between two polls.

The cluster is idle for `--idle` seconds first. What its parts use then is subtracted from what they
use for a run. The processor time of a pod is read until it ends.
"""

import argparse
import base64
import json
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import UUID

from kubernetes import client as kubernetes_client
from kubernetes import watch
from prefect.client.orchestration import SyncPrefectClient
from rich.console import Console
from rich.table import Table

from bench.control_groups import ControlGroups, uid_of
from prefect_platform.console import step
from prefect_platform.polling import wait_until
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import JOBS, POOL, final

# Prints when the first process of the pod started, and when the code of the flow was reached.
_CODE = """
import time
from prefect import flow

@flow
def empty():
    reached = time.time()
    ticks = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / 100
    print("reached", reached - age, reached, flush=True)
"""
# A pull step that writes the file would make the engine start in a new Python process.
_WRITE = f"echo {base64.b64encode(_CODE.encode()).decode()} | base64 -d > /tmp/empty.py"
RUN = "a flow run"
BARE = {
    "a bare Job of /bin/true": ["/bin/true"],
    "a bare Job that imports the engine once": ["python", "-c", "import prefect.flow_engine"],
}
PHASES = (
    "created",
    "taken by the worker",
    "pod created",
    "pod scheduled",
    "container started",
    "Running",
    "first line of the flow",
    "Completed",
    "pod ended",
)
_TAKEN = PHASES[1]
_WITHIN = 120.0  # seconds for each run and each Job
_SETTLED = 10.0  # seconds after which a run has left nothing to do
_SHOWN_FROM = 0.02  # CPU-seconds
_JOB = "batch.kubernetes.io/job-name"
_NAMES = ("app.kubernetes.io/component", "component", "k8s-app")


@dataclass(frozen=True)
class Measured:
    """The moments of a run or a Job, in seconds since its creation, and the CPU-s of its pod."""

    moments: Mapping[str, float]
    cpu: float


class JobPods:
    """Notes when the pods of Jobs are created and scheduled, and when they end."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.seen: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """The moments of a Job's pod, in seconds since the epoch."""
        self.uids: dict[str, str] = {}
        self._api = kubernetes_client.CoreV1Api(kubectl.api())
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            for event in watch.Watch().stream(
                self._api.list_pod_for_all_namespaces, label_selector=_JOB
            ):
                self._note(event["object"], time.time())

    def _note(self, pod: kubernetes_client.V1Pod, now: float) -> None:
        if (job := (pod.metadata.labels or {}).get(_JOB)) is None:
            return
        self.uids[job] = pod.metadata.uid
        reached = {
            "pod created": True,
            "pod scheduled": pod.spec.node_name is not None,
            "pod ended": pod.status.phase in ("Succeeded", "Failed"),
        }
        for moment in (name for name, is_reached in reached.items() if is_reached):
            self.seen[job].setdefault(moment, now)

    def follow(self, job: str, groups: ControlGroups) -> tuple[dict[str, float], float]:
        """Wait until the pod of a Job has ended; return its moments and its CPU-seconds."""
        cpu = 0.0

        def ended() -> bool:
            nonlocal cpu
            cpu = max(cpu, groups.of_pod(self.uids.get(job, "")))
            return "pod ended" in self.seen[job]

        if not wait_until(ended, _WITHIN, every=0.05):
            raise RuntimeError(f"the pod of the Job {job} has not ended: {self.seen[job]}")
        return self.seen[job], cpu


class Platform:
    """The deployed platform, with a deployment of an empty flow."""

    def __init__(self, kubectl: Kubectl, prefect: SyncPrefectClient) -> None:
        self._kubectl, self._prefect = kubectl, prefect
        self._core = kubernetes_client.CoreV1Api(kubectl.api())
        self._batch = kubernetes_client.BatchV1Api(kubectl.api())
        self._pods = JobPods(kubectl)
        (worker,) = self._core.list_pod_for_all_namespaces(
            label_selector="app.kubernetes.io/component=worker"
        ).items
        self.groups = ControlGroups.with_pod(worker.metadata.uid)
        self._deployment = self._deployed()
        self._template: dict[str, Any] = {}

    def parts(self) -> defaultdict[str, float]:
        """Return the CPU-seconds so far of each part of the cluster except the pods of Jobs."""
        used = defaultdict(float, {"kubelet, containerd and shims": self.groups.of_system()})
        by_uid = self.groups.of_pods()
        for pod in self._core.list_pod_for_all_namespaces().items:
            labels = pod.metadata.labels or {}
            if _JOB not in labels and pod.metadata.name:
                name = next((labels[key] for key in _NAMES if key in labels), pod.metadata.name)
                used[name] += by_uid.get(uid_of(pod), 0.0)
        return used

    def _deployed(self) -> UUID:
        pool = self._prefect.read_work_pool(POOL).base_job_template
        command = pool["variables"]["properties"]["command"]["default"]
        return self._prefect.create_deployment(
            self._prefect.create_flow_from_name("empty"),
            name="start-latency",
            entrypoint="empty.py:empty",
            work_pool_name=POOL,
            pull_steps=[
                {"prefect.deployments.steps.set_working_directory": {"directory": "/tmp"}}  # noqa: S108
            ],
            job_variables={"command": f"sh -c '{_WRITE} && exec {command}'"},
        )

    def run(self, variables: Mapping[str, Any]) -> Measured:
        """Execute a flow run with these job variables."""
        created = self._prefect.create_flow_run_from_deployment(
            self._deployment, job_variables=dict(variables)
        )
        selector = f"prefect.io/flow-run-id={created.id}"

        def jobs() -> list[kubernetes_client.V1Job]:
            found: list[kubernetes_client.V1Job] = self._batch.list_namespaced_job(
                JOBS, label_selector=selector
            ).items
            return found

        (job,) = wait_until(jobs, _WITHIN)
        self._template = self._batch.api_client.sanitize_for_serialization(job.spec.template)
        seen, cpu = self._pods.follow(job.metadata.name, self.groups)
        ended = final(self._prefect, created)
        states = {each.name: each for each in self._prefect.read_flow_run_states(created.id)}
        if "Completed" not in states or ended.created is None:
            raise RuntimeError(f"the run is {ended.state_name}")
        log = self._kubectl(f"--namespace={JOBS}", "logs", f"job/{job.metadata.name}")
        (line,) = [each.split() for each in log.splitlines() if each.startswith("reached ")]
        moments = {
            **seen,
            "taken by the worker": states["Pending"].timestamp.timestamp(),
            "container started": float(line[1]),
            "Running": states["Running"].timestamp.timestamp(),
            "first line of the flow": float(line[2]),
            "Completed": states["Completed"].timestamp.timestamp(),
        }
        return Measured(_since(ended.created.timestamp(), moments), cpu)

    def bare(self, command: list[str]) -> Measured:
        """Run a command in a Job with the pod of the last flow run."""
        (container,) = self._template["spec"]["containers"]
        kept = {key: container[key] for key in ("image", "resources", "securityContext")}
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [{**kept, "name": "bare", "args": command}],
        }
        spec = {"backoffLimit": 0, "ttlSecondsAfterFinished": 60, "template": {"spec": pod}}
        created = time.time()
        job = self._batch.create_namespaced_job(
            "default", {"metadata": {"generateName": "bare-"}, "spec": spec}
        )
        seen, cpu = self._pods.follow(job.metadata.name, self.groups)
        return Measured(_since(created, seen), cpu)


def _since(created: float, moments: Mapping[str, float]) -> dict[str, float]:
    return {name: moment - created for name, moment in moments.items()}


def measure(
    platform: Platform, rounds: int, every: float, interval: float, idle: float
) -> tuple[dict[str, list[Measured]], dict[str, float]]:
    """Return what was measured of runs and of bare Jobs, and the CPU-seconds of a run by part."""
    platform.run({})  # the first run of a deployment has caches to fill
    time.sleep(_SETTLED)
    before, began = platform.parts(), time.monotonic()
    time.sleep(idle)
    rates = {name: (used - before[name]) / idle for name, used in platform.parts().items()}
    measured: dict[str, list[Measured]] = {name: [] for name in (RUN, *BARE)}
    spent: defaultdict[str, float] = defaultdict(float)
    for number in range(rounds):
        with step(f"round {number + 1} of {rounds}"):
            before, began = platform.parts(), time.monotonic()
            measured[RUN].append(platform.run({}))
            time.sleep(max(0.0, began + every - time.monotonic()))
            seconds, after = time.monotonic() - began, platform.parts()
            for name, used in after.items():
                spent[name] += used - before[name] - rates.get(name, 0.0) * seconds
            for name, command in BARE.items():
                measured[name].append(platform.bare(command))
            time.sleep(random.uniform(0, interval))  # noqa: S311 - no secret
    spent["the pod of the run"] = sum(run.cpu for run in measured[RUN])
    by_use = sorted(spent.items(), key=lambda part: -part[1])
    return measured, {name: used / rounds for name, used in by_use}


def report(measured: Mapping[str, list[Measured]], parts: Mapping[str, float]) -> list[Table]:
    """Return the tables of moments, of ceilings and of processor time."""
    moments = Table("moment of a run", "median", "range", title="seconds since its creation")
    for moment in PHASES[1:]:
        moments.add_row(moment, *_spread([run.moments[moment] for run in measured[RUN]]))
    running = [run.moments["Running"] for run in measured[RUN]]
    moments.caption = f"until Running: 95 % within {_percentile(running, 95):.1f} s"
    ceilings = Table("", "until the pod has ended", "range", "CPU-s", "range", title="ceilings")
    for name, each in measured.items():
        ended = [one.moments["pod ended"] - one.moments.get(_TAKEN, 0.0) for one in each]
        ceilings.add_row(name, *_spread(ended), *_spread([one.cpu for one in each]))
    ceilings.caption = "a run from the moment at which the worker has taken it"
    processor = Table("part of the cluster", "CPU-s for a run", title="processor time")
    for name, used in parts.items():
        if used >= _SHOWN_FROM:
            processor.add_row(name, f"{used:.2f}")
    return [moments, ceilings, processor]


def _spread(values: list[float]) -> tuple[str, str]:
    return f"{median(values):.2f}", f"{min(values):.2f}-{max(values):.2f}"


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    """Measure, print the tables, and write everything that was measured to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--every", type=float, default=8, metavar="SECONDS")
    parser.add_argument("--interval", type=float, default=5, metavar="SECONDS")
    parser.add_argument("--idle", type=float, default=30, metavar="SECONDS")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a file for JSON")
    given = parser.parse_args()
    cluster = os.environ.get("CLUSTER_NAME", "prefect-platform")
    kubectl = Kubectl(KindProvider(cluster).kubeconfig())
    with connected(kubectl) as prefect:
        platform = Platform(kubectl, prefect)
        measured, parts = measure(
            platform, max(2, given.rounds), given.every, given.interval, given.idle
        )
    if given.output is not None:
        every = {name: [asdict(one) for one in each] for name, each in measured.items()}
        given.output.write_text(json.dumps({"measured": every, "processor": parts}, indent=1))
    for table in report(measured, parts):
        Console().print(table)


if __name__ == "__main__":
    main()
