"""Faults of the parts that serve the runs: one is killed, away, or has no connection left."""

from dataclasses import dataclass

from tests.chaos.fault import Fault
from tests.chaos.parts import API, DATABASE, Part
from tests.chaos.target import Target

_REPLICAS = "chaos/replicas"
# Takes every connection that the database still has, and each one that becomes free.
_TAKE_CONNECTIONS = """
import asyncio, os, sys, time
import asyncpg

async def take():
    settings = {
        each: os.environ["PREFECT_SERVER_DATABASE_" + each.upper()]
        for each in ("host", "port", "user", "password")
    }
    end, taken = time.monotonic() + float(sys.argv[1]), []
    while time.monotonic() < end:
        try:
            taken.append(await asyncpg.connect(database="postgres", **settings))
        except asyncpg.TooManyConnectionsError:
            await asyncio.sleep(0.1)
    print(len(taken))

asyncio.run(take())
"""


@dataclass(frozen=True, kw_only=True)
class OfOnePart(Fault):
    """A fault of one workload."""

    part: Part

    @property
    def parts(self) -> frozenset[Part]:
        """Return the part."""
        return frozenset({self.part})


@dataclass(frozen=True, kw_only=True)
class Killed(OfOnePart):
    """One container of a workload is killed with SIGKILL; the kubelet starts it again."""

    def inject(self, target: Target) -> None:
        """Kill the container of the first pod, and wait until the kubelet has noticed."""
        (pod, *_) = target.listed(self.part.namespace, "pods", self.part.selector)
        target.kill(pod)

    def heal(self, target: Target) -> None:
        """Wait until the workload has its pods."""
        await_pods(target, self.part)


@dataclass(frozen=True, kw_only=True)
class Away(OfOnePart):
    """A workload has no pods for some seconds."""

    def inject(self, target: Target) -> None:
        """Scale the workload to zero pods, and note how many it had."""
        here, workload = self.part.here, self.part.workload
        replicas = target.kubectl(here, "get", workload, "-o=jsonpath={.spec.replicas}")
        target.kubectl(here, "annotate", workload, f"{_REPLICAS}={replicas}")
        target.kubectl(here, "scale", workload, "--replicas=0")
        gone = ("wait", "pod", f"--selector={self.part.selector}", "--for=delete")
        target.kubectl(here, *gone, "--timeout=120s")

    def heal(self, target: Target) -> None:
        """Scale the workload to the pods that it had."""
        here, workload = self.part.here, self.part.workload
        noted = f"-o=jsonpath={{.metadata.annotations.{_REPLICAS}}}"
        if replicas := target.kubectl(here, "get", workload, noted):
            target.kubectl(here, "scale", workload, f"--replicas={replicas}")
            target.kubectl(here, "annotate", workload, f"{_REPLICAS}-")
        await_pods(target, self.part)


@dataclass(frozen=True, kw_only=True)
class ConnectionsExhausted(Fault):
    """Another client of the server's database holds all of its connections for 30 seconds."""

    @property
    def parts(self) -> frozenset[Part]:
        """Return the database, and the API, whose pod is the client."""
        return frozenset({API, DATABASE})

    def inject(self, target: Target) -> None:
        """Take the connections from the pod of the API, which has the login."""
        take = ("exec", API.workload, "--", "python", "-c", _TAKE_CONNECTIONS, "30")
        taken = int(target.kubectl(API.here, *take))
        assert taken > 50, f"only {taken} connections were taken"


def await_pods(target: Target, part: Part) -> None:
    """Wait until the workload has its pods."""
    target.kubectl(part.here, "rollout", "status", part.workload, "--timeout=300s")
