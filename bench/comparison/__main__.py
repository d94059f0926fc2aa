"""Compare the platform with Prefect's own set-up, and with bare Jobs, in one kind cluster.

`make bench`, or `python -m bench.comparison` with options, needs a platform that `make
deploy-cluster` created. The benchmark stops the platform while it measures the others, and starts
it again at the end; do not run it on a cluster whose runs matter. In each round it measures the
platform, bare Jobs and Prefect's own set-up, the next round in the opposite order:

- the seconds from the creation of a run to Running, with one run every 5 s,
- a burst of runs: its seconds, and what became of the runs,
- the CPU-seconds of each part of the cluster for a run of the burst,
- in the first round, what the cluster uses without runs.
"""

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import prefect
from kubernetes import client as kubernetes_client
from rich.console import Console

from bench.comparison.figures import (
    COMPLETED,
    DOUBLED,
    DRAIN,
    FAULTS,
    IDLE_MEMORY,
    IDLE_PROCESSOR,
    LOST,
    PLATFORM,
    PROCESSOR,
    START_P50,
    START_P95,
    STOCK,
    percentile,
    table,
)
from bench.comparison.load import COMMANDS, Burst, Jobs, Load, Runs
from bench.comparison.processor import Idle, Meter, Part, Reading, available_memory, split
from bench.comparison.set_ups import Bare, Platform, PrefectSetUp, SetUp, Stock
from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.process import run
from prefect_platform_cli.kube.kubectl import Kubectl

OTHERS = "cores that other processes used"
_WIDTH = 160  # of the table in a file
_SETTLED = 10.0  # seconds after which a run has left nothing to do


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 2
    latencies: int = 12
    """How many single runs start in each round."""
    every: float = 5
    """Seconds between two of them."""
    runs: int = 100
    """How many runs a burst has."""
    idle: float = 120
    """For how many seconds the cluster is idle."""


_QUICK = Plan(rounds=1, latencies=4, runs=8, idle=20)


class Comparison:
    """The set-ups of a cluster, of which one runs at a time, and what was measured so far."""

    def __init__(self, kubectl: Kubectl, plan: Plan, *, byte_code: bool) -> None:
        self._kubectl, self._plan = kubectl, plan
        self._platform = Platform(kubectl)
        with step("Start the platform"):
            self._platform.start()
        with self._platform.connected() as client:
            self._flows = self._platform.template(client)["image"]
        self._set_ups: tuple[SetUp, ...] = (
            self._platform,
            Bare(kubectl),
            Stock(kubectl, self._platform.images(), self._flows, byte_code=byte_code),
        )
        self._running: SetUp = self._platform
        self._meter = Meter(kubectl)
        self._idle: dict[str, Idle] = {}
        self.rounds: list[dict[str, dict[str, float | None]]] = []
        """The figures of each set-up in each round."""
        self.samples: list[dict[str, Any]] = []
        """Everything that was measured, in the order of time."""

    def run(self) -> None:
        """Measure all rounds, and leave the platform running."""
        try:
            with self._meter.watching():
                for number in range(self._plan.rounds):
                    self.rounds.append({})
                    # The opposite order in every other round, so that a machine that gets slower
                    # harms all alike.
                    for set_up in self._set_ups[:: 1 if number % 2 == 0 else -1]:
                        self._switch(set_up)
                        self._measure_all(set_up)
        finally:
            if self._running is not self._platform:
                self._running.stop()
            self._platform.start()
        self._add_idle_figures()

    def _switch(self, set_up: SetUp) -> None:
        if set_up is not self._running:
            with step(f"Stop {self._running.name}, start {set_up.name}"):
                self._running.stop()
                self._running = set_up
                set_up.start()

    def _measure_all(self, set_up: SetUp) -> None:
        for name, load in self._loads(set_up).items():
            with load:
                time.sleep(_SETTLED)
                if set_up.name not in self._idle:
                    with step(f"{set_up.name}: idle for {self._plan.idle:.0f} s") as current:
                        idle = self._meter.idle(self._plan.idle, set_up.namespaces)
                        current.detail = ", ".join(idle.jobs)
                    self._idle[set_up.name] = idle
                self._measure(name, load, self._idle[set_up.name])

    def _loads(self, set_up: SetUp) -> dict[str, Load]:
        if isinstance(set_up, PrefectSetUp):
            return {set_up.name: Runs(self._kubectl, set_up)}
        return {
            name: Jobs(self._kubectl, set_up.jobs, self._flows, command)
            for name, command in COMMANDS.items()
        }

    def _measure(self, name: str, load: Load, idle: Idle) -> None:
        plan, title = self._plan, f"round {len(self.rounds)}, {name}"
        with step(f"{title}: {plan.latencies} starts") as current:
            latencies = load.latencies(plan.latencies, plan.every)
            load.await_quiet()
            current.detail = f"median {percentile(latencies, 50) or 0:.1f} s"
        self._meter.least_memory = available_memory()
        before = self._meter.read()
        with step(f"{title}: a burst of {plan.runs}") as current:
            burst = load.burst(plan.runs)
            load.await_quiet()
            current.detail = ", ".join(
                f"{state} {runs}" for state, runs in burst.outcome.states.items()
            )
        after = self._meter.read()
        used = _for_a_run(before, after, idle, burst)
        self.rounds[-1][name] = {
            START_P50: percentile(latencies, 50),
            START_P95: percentile(latencies, 95),
            DRAIN: burst.drain,
            COMPLETED: burst.outcome.completed,
            LOST: burst.outcome.lost,
            DOUBLED: burst.outcome.doubled,
            FAULTS: sum(burst.faults.values()),
            PROCESSOR: sum(used.values()) if used else None,
            **{f"{PROCESSOR}: {part}": seconds for part, seconds in used.items()},
        }
        seconds = after.at - before.at
        of_others = after.machine - before.machine - (after.node - before.node)
        self.samples.append(
            {
                "round": len(self.rounds),
                "set-up": name,
                "latencies": latencies,
                "burst": asdict(burst),
                "seconds of the burst": seconds,
                OTHERS: of_others / seconds,
                "least available memory": self._meter.least_memory,
            }
        )

    def _add_idle_figures(self) -> None:
        alone = self._idle[Bare.name]
        for name in (PLATFORM, STOCK):
            idle = self._idle[name]
            self.rounds[0][name] |= {
                IDLE_PROCESSOR: 100 * (idle.cores - alone.cores),
                IDLE_MEMORY: idle.memory,
            }
            self.samples.append({"set-up": name, "idle": asdict(idle)})
        self.samples.append({"set-up": Bare.name, "idle": asdict(alone)})


def _for_a_run(before: Reading, after: Reading, idle: Idle, burst: Burst) -> dict[Part, float]:
    """Return the CPU-seconds of each part for a completed run, without those of an idle cluster."""
    if not burst.outcome.completed:
        return {}
    seconds = after.at - before.at
    return {
        part: (used - idle.rates[part] * seconds) / burst.outcome.completed
        for part, used in split(before, after).items()
    }


def _machine(kubectl: Kubectl) -> dict[str, Any]:
    """Describe the machine, and the versions of what was measured."""
    nodes = kubernetes_client.CoreV1Api(kubectl.api()).list_node().items
    if len(nodes) != 1:
        raise PlatformError(
            f"the cluster has {len(nodes)} nodes, but the benchmark can only measure one",
            next_step="make deploy-cluster CLUSTER_NAME=bench, then make bench CLUSTER_NAME=bench",
        )
    versions = nodes[0].status.node_info
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else platform.machine(),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "Kubernetes": versions.kubelet_version,
        "runtime": versions.container_runtime_version,
        "Prefect": prefect.__version__,
        "commit": run(
            ["git", "describe", "--always", "--dirty"],
            failure="git cannot name the commit",
            next_step="run the benchmark in a clone of the repository",
            cwd=REPOSITORY,
        ).strip(),
    }


def main() -> None:
    """Measure, print the table, and write all samples to a file."""
    parser = argparse.ArgumentParser("python -m bench.comparison", description=__doc__)
    parser.add_argument("cluster", nargs="?", default="", help="name of the kind cluster")
    parser.add_argument("--quick", action="store_true", help="a trial of a few minutes")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--latencies", type=int, help="single runs in each round")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="between two of them")
    parser.add_argument("--runs", type=int, help="runs of a burst")
    parser.add_argument("--idle", type=float, metavar="SECONDS")
    parser.add_argument(
        "--without-byte-code",
        action="store_true",
        help="let the job pods of Prefect's own set-up compile each module",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="a file for JSON")
    given = parser.parse_args()
    chosen = {
        name: value
        for name, value in vars(given).items()
        if name in Plan.__dataclass_fields__ and value is not None
    }
    plan = replace(_QUICK if given.quick else Plan(), **chosen)
    provider = KindProvider(given.cluster or "prefect-platform")
    output = given.output or provider.kubeconfig().with_name("bench.json")
    kubectl = Kubectl(provider.kubeconfig())
    machine = {**_machine(kubectl), "load before": os.getloadavg()[0]}
    comparison = Comparison(kubectl, plan, byte_code=not given.without_byte_code)
    try:
        comparison.run()
    finally:
        machine["load after"] = os.getloadavg()[0]
        document = {
            "machine": machine,
            "plan": {**asdict(plan), "byte code": not given.without_byte_code},
            "rounds": comparison.rounds,
            "samples": comparison.samples,
        }
        output.write_text(json.dumps(document, indent=1))
    machine[f"{OTHERS}, at most"] = max(each.get(OTHERS, 0.0) for each in comparison.samples)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table(comparison.rounds))
    print(", ".join(f"{name}: {_shown(value)}" for name, value in machine.items()))
    print(f"All samples are in {output}")


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    try:
        main()
    except PlatformError as error:
        sys.exit(f"error: {error}")
