"""What a trial does to the platform. Each fault can be healed in any state, also twice."""

from dataclasses import dataclass

from prefect_platform_cli.kube import names
from tests.chaos.target import Target
from tests.cluster.deployed import eventually

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
class Fault:
    """A fault, and what it needs. By itself it does nothing: the figures of the load alone."""

    name: str
    ha: bool = False
    """Whether it needs the server in mode ha."""
    seconds: float = 0
    """How long it lasts before it is healed."""

    def inject(self, target: Target) -> None:
        """Inject the fault, and return when it has taken effect."""

    def heal(self, target: Target) -> None:
        """Heal the fault, and return when the platform is complete again."""


@dataclass(frozen=True, kw_only=True)
class Killed(Fault):
    """One container of a workload is killed with SIGKILL; the kubelet starts it again."""

    namespace: str
    workload: str
    selector: str

    def inject(self, target: Target) -> None:
        """Kill the container of the first pod, and wait until the kubelet has noticed."""
        (pod, *_) = target.listed(self.namespace, "pods", self.selector)
        (killed,) = pod["status"]["containerStatuses"]
        container = killed["containerID"].removeprefix("containerd://")
        kill = ("ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", container)
        target.on_node(pod["spec"]["nodeName"], *kill)

        def is_gone() -> bool:
            return all(
                container not in status["containerID"] or "running" not in status["state"]
                for each in target.listed(self.namespace, "pods", self.selector)
                for status in each["status"].get("containerStatuses", ())
            )

        eventually(f"the container of {pod['metadata']['name']} has ended", is_gone)

    def heal(self, target: Target) -> None:
        """Wait until the workload has its pods."""
        _complete(target, self.namespace, self.workload)


@dataclass(frozen=True, kw_only=True)
class Away(Fault):
    """A workload has no pods for some seconds."""

    namespace: str
    workload: str
    selector: str

    def inject(self, target: Target) -> None:
        """Scale the workload to zero pods, and note how many it had."""
        here = f"--namespace={self.namespace}"
        replicas = target.kubectl(here, "get", self.workload, "-o=jsonpath={.spec.replicas}")
        target.kubectl(here, "annotate", self.workload, f"{_REPLICAS}={replicas}")
        target.kubectl(here, "scale", self.workload, "--replicas=0")
        gone = ("wait", "pod", f"--selector={self.selector}", "--for=delete", "--timeout=120s")
        target.kubectl(here, *gone)

    def heal(self, target: Target) -> None:
        """Scale the workload to the pods that it had."""
        here = f"--namespace={self.namespace}"
        noted = f"-o=jsonpath={{.metadata.annotations.{_REPLICAS}}}"
        if replicas := target.kubectl(here, "get", self.workload, noted):
            target.kubectl(here, "scale", self.workload, f"--replicas={replicas}")
            target.kubectl(here, "annotate", self.workload, f"{_REPLICAS}-")
        _complete(target, self.namespace, self.workload)


@dataclass(frozen=True, kw_only=True)
class ConnectionsExhausted(Fault):
    """Another client of the server's database holds all of its connections for 30 seconds."""

    def inject(self, target: Target) -> None:
        """Take the connections from the pod of the API, which has the login."""
        take = ("exec", "deployment/prefect-server", "--", "python", "-c", _TAKE_CONNECTIONS, "30")
        taken = int(target.kubectl(f"--namespace={names.SERVER_NAMESPACE}", *take))
        assert taken > 50, f"only {taken} connections were taken"


def _complete(target: Target, namespace: str, workload: str) -> None:
    rollout = ("rollout", "status", workload, "--timeout=300s")
    target.kubectl(f"--namespace={namespace}", *rollout)


def _api(fault: type[Killed] | type[Away], name: str, seconds: float = 0) -> Fault:
    return fault(
        name=name,
        namespace=names.SERVER_NAMESPACE,
        workload=f"deployment/{names.SERVER_RELEASE}",
        selector=names.selector(instance=names.SERVER_RELEASE, component="api"),
        seconds=seconds,
    )


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(name="none"),
        _api(Killed, "api-killed"),
        Killed(
            name="services-killed",
            namespace=names.SERVER_NAMESPACE,
            workload="deployment/prefect-server-services",
            selector=names.selector(instance=names.SERVER_RELEASE, component="services"),
            ha=True,
        ),
        Killed(
            name="worker-killed",
            namespace=names.WORKER_NAMESPACE,
            workload=f"deployment/{names.WORKER_RELEASE}-{names.POOL}",
            selector=names.selector(instance=names.WORKER_RELEASE, component="worker"),
        ),
        Killed(
            name="database-killed",
            namespace=names.SERVER_NAMESPACE,
            workload="statefulset/prefect-server-database",
            selector=names.selector(instance=names.SERVER_RELEASE, component="database"),
        ),
        Killed(
            name="redis-killed",
            namespace=names.SERVER_NAMESPACE,
            workload="statefulset/prefect-server-redis",
            selector=names.selector(instance=names.SERVER_RELEASE, component="redis"),
            ha=True,
        ),
        _api(Away, "api-away", 30),
        _api(Away, "api-away-long", 360),
        ConnectionsExhausted(name="connections-exhausted"),
        Away(
            name="object-store-away",
            namespace=names.DATA_NAMESPACE,
            workload=f"statefulset/{names.OBJECT_STORE}",
            selector=names.selector(component=names.OBJECT_STORE),
            seconds=30,
        ),
    )
}
