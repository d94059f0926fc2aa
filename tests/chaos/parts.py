"""The parts of the platform that faults disturb."""

from dataclasses import dataclass

from prefect_platform_cli.kube import names


@dataclass(frozen=True)
class Part:
    """A workload, as kubectl names it, and the selector of its pods."""

    namespace: str
    workload: str
    selector: str

    @property
    def name(self) -> str:
        """Return the name of the workload, without its kind."""
        return self.workload.partition("/")[2]

    @property
    def here(self) -> str:
        """Return kubectl's option for its namespace."""
        return f"--namespace={self.namespace}"


def _server(workload: str, component: str) -> Part:
    selector = names.selector(instance=names.SERVER_RELEASE, component=component)
    return Part(names.SERVER_NAMESPACE, workload, selector)


def _worker(workload: str, component: str) -> Part:
    selector = names.selector(instance=names.WORKER_RELEASE, component=component)
    return Part(names.WORKER_NAMESPACE, workload, selector)


API = _server(f"deployment/{names.SERVER_RELEASE}", "api")
SERVICES = _server(f"deployment/{names.SERVER_RELEASE}-services", "services")
DATABASE = _server(f"statefulset/{names.SERVER_RELEASE}-database", "database")
REDIS = _server(f"statefulset/{names.SERVER_RELEASE}-redis", "redis")
WORKER = _worker(f"deployment/{names.WORKER_RELEASE}-{names.POOL}", "worker")
REAPER = _worker(f"cronjob/{names.WORKER_RELEASE}-reaper", "reaper")
CONFIGURATION = _worker(f"cronjob/{names.WORKER_RELEASE}-configuration", "configuration")
WAREHOUSE = Part(
    names.DATA_NAMESPACE, "statefulset/warehouse", names.selector(component="warehouse")
)
OBJECT_STORE = Part(
    names.DATA_NAMESPACE,
    f"statefulset/{names.OBJECT_STORE}",
    names.selector(component=names.OBJECT_STORE),
)
