"""The set-ups that are compared. One runs at a time, so that none takes anything from another."""

import base64
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any
from uuid import UUID

from kubernetes import client as kubernetes_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from bench.comparison import stock
from bench.comparison.figures import PLATFORM, STOCK
from prefect_platform.configuration.core.prefect_api import prefect_api
from prefect_platform.polling import wait_until, wait_while
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl

EXECUTED = "executed"
"""The line that the flow prints, followed by the modules of the platform that are loaded."""
CODE = f"""
import sys
from prefect import flow

@flow
def empty():
    ours = [name for name in sys.modules if name.startswith("prefect_platform")]
    print("{EXECUTED}", *ours, flush=True)
"""
# A pull step that writes the file would make the platform's engine start in a new Python process.
_WRITE = f"echo {base64.b64encode(CODE.encode()).decode()} | base64 -d > /tmp/empty.py"
_WORKING_DIRECTORY = {"prefect.deployments.steps.set_working_directory": {"directory": "/tmp"}}  # noqa: S108
_WITHIN = 300.0  # seconds in which a set-up starts or stops
_MISSED_WITHIN = 20.0  # seconds in which a resumed CronJob starts the Job that it has missed
_BEFORE = "prefect-platform/before-bench"
"""An annotation with what a stopped object had in the field that stopped it."""
_ENTRY_POINTS = (
    "from importlib.metadata import entry_points; "
    "print([each.value for group in ('prefect.plugins', 'prefect.collections')"
    " for each in entry_points(group=group) if each.value.startswith('prefect_platform')])"
)
_PREFECT_COMMAND = "prefect flow-run execute"
_COMPILE_ANEW = {"PYTHONPYCACHEPREFIX": "/tmp/no-byte-code"}  # noqa: S108 - in a pod


class SetUp(ABC):
    """A set-up that can be started and stopped."""

    name: str
    namespaces: tuple[str, ...]
    """Those of its own pods, without the job pods."""
    jobs: str
    """The namespace of the job pods."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and return when it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it, and return when it has no pods left that run."""


class PrefectSetUp(SetUp):
    """A set-up that has a Prefect server."""

    api: str
    """The namespace of the server."""

    @abstractmethod
    def connected(self) -> AbstractContextManager[SyncPrefectClient]:
        """Yield a client of the server's API."""

    @abstractmethod
    def deploy(self, prefect: SyncPrefectClient) -> UUID:
        """Deploy the empty flow, and return the id of the deployment."""

    @abstractmethod
    def check(self, logs: Collection[str]) -> None:
        """Raise RuntimeError if a run with these logs is not one of this set-up."""


class Platform(PrefectSetUp):
    """The platform as `make deploy-cluster` installs it. To stop it, it is scaled to zero."""

    name = PLATFORM
    namespaces = (names.SERVER_NAMESPACE, names.WORKER_NAMESPACE)
    jobs = names.JOB_NAMESPACE
    api = names.SERVER_NAMESPACE

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._apps = kubernetes_client.AppsV1Api(kubectl.api())
        self._batch = kubernetes_client.BatchV1Api(kubectl.api())
        self._core = kubernetes_client.CoreV1Api(kubectl.api())

    def connected(self) -> AbstractContextManager[SyncPrefectClient]:
        """Yield a client of the server's API."""
        return connected(self._kubectl)

    def start(self) -> None:
        """Restore what `stop` has stopped, also in an earlier call of the benchmark."""
        restored = False
        for each, patch, field in self._objects():
            if (before := (each.metadata.annotations or {}).get(_BEFORE)) is not None:
                metadata = {"annotations": {_BEFORE: None}}
                patch({"metadata": metadata, "spec": {field: json.loads(before)}})
                restored = True
        for namespace in self.namespaces:
            _await_rollouts(self._kubectl, namespace, "deployments", "statefulsets")
        if restored:  # the CronJobs make up for what they have missed
            wait_until(self._active, _MISSED_WITHIN, every=1)
            wait_until(lambda: not self._active(), _WITHIN, every=1)

    def stop(self) -> None:
        """Suspend the CronJobs, and scale everything else to zero."""
        self._set("suspend")
        wait_until(lambda: not self._active(), _WITHIN, every=1)
        self._set("replicas")
        for namespace in self.namespaces:
            _await_no_pods(self._core, namespace)

    def deploy(self, prefect: SyncPrefectClient) -> UUID:
        """Deploy the empty flow, and return the id of the deployment."""
        command = self.template(prefect)["command"]
        return _deploy(prefect, names.POOL, command, {})

    def check(self, logs: Collection[str]) -> None:
        """Raise RuntimeError unless the run has used the command of the platform."""
        if not _modules(logs):
            raise RuntimeError("the run of the platform has not used its command")

    def template(self, prefect: SyncPrefectClient) -> dict[str, str]:
        """Return the defaults of the job variables."""
        template = prefect.read_work_pool(names.POOL).base_job_template
        properties: dict[str, dict[str, str]] = template["variables"]["properties"]
        return {name: each["default"] for name, each in properties.items() if "default" in each}

    def images(self) -> dict[str, str]:
        """Return the images of the server and of its database."""
        found = {}
        for each, _, _ in self._objects():
            if hasattr(each.spec, "template"):  # CronJobs run the image of the server
                (container,) = each.spec.template.spec.containers
                found[each.metadata.name] = container.image
        return found

    def _set(self, stopping: str) -> None:
        for each, patch, field in self._objects():
            annotations = each.metadata.annotations or {}
            if field == stopping and _BEFORE not in annotations:
                metadata = {"annotations": {_BEFORE: json.dumps(getattr(each.spec, field))}}
                stopped: Any = True if field == "suspend" else 0
                patch({"metadata": metadata, "spec": {field: stopped}})

    def _active(self) -> bool:
        return any(
            each.status.active
            for namespace in self.namespaces
            for each in self._batch.list_namespaced_job(namespace).items
        )

    def _objects(self) -> Iterator[tuple[Any, Callable[[Any], Any], str]]:
        """Yield each object, a function that patches it, and the field that stops it."""
        kinds = (
            (self._apps, "deployment", "replicas"),
            (self._apps, "stateful_set", "replicas"),
            (self._batch, "cron_job", "suspend"),
        )
        for namespace in self.namespaces:
            for api, kind, field in kinds:
                for each in getattr(api, f"list_namespaced_{kind}")(namespace).items:
                    patch = getattr(api, f"patch_namespaced_{kind}")
                    yield each, partial(patch, each.metadata.name, namespace), field


class Stock(PrefectSetUp):
    """Prefect's own server and worker. Each start has a new, empty database."""

    name = STOCK
    namespaces = (stock.NAMESPACE,)
    jobs = stock.NAMESPACE
    api = stock.NAMESPACE

    def __init__(
        self, kubectl: Kubectl, images: dict[str, str], flows: str, *, byte_code: bool
    ) -> None:
        """Use the images of the platform, and compile each module anew without `byte_code`."""
        self._kubectl = kubectl
        self._core = kubernetes_client.CoreV1Api(kubectl.api())
        self._image = images[names.SERVER_RELEASE]
        self._postgres = next(image for name, image in images.items() if "postgres" in image)
        self._variables: dict[str, Any] = {"image": flows, "namespace": stock.NAMESPACE}
        if not byte_code:
            self._variables["env"] = _COMPILE_ANEW

    @contextmanager
    def connected(self) -> Iterator[SyncPrefectClient]:
        """Yield a client of the server's API."""
        service = f"service/{stock.SERVER}"
        with (
            self._kubectl.port_forward(service, 4200, namespace=stock.NAMESPACE) as port,
            prefect_api(f"http://127.0.0.1:{port}/api", None) as prefect,
        ):
            yield prefect

    def start(self) -> None:
        """Install it, and check that nothing of the platform is loaded by it."""
        self.stop()  # an earlier call may have been interrupted
        self._kubectl.apply(
            stock.manifests(self._image, self._postgres, password=secrets.token_hex(16))
        )
        here = f"--namespace={stock.NAMESPACE}"
        _await_rollouts(self._kubectl, stock.NAMESPACE, "deployments")
        for deployment in (stock.SERVER, stock.WORKER):
            executed = ("exec", f"deployment/{deployment}", "--", "python", "-c", _ENTRY_POINTS)
            if (found := self._kubectl(here, *executed).strip()) != "[]":
                raise RuntimeError(f"{deployment} of the stock set-up would load {found}")
        with self.connected() as prefect:
            if not wait_until(lambda: _has_pool(prefect, stock.POOL), _WITHIN, every=1):
                raise RuntimeError("the worker of the stock set-up has not created its work pool")

    def stop(self) -> None:
        """Remove its namespace."""
        gone = ("--ignore-not-found", f"--timeout={_WITHIN:.0f}s")
        self._kubectl("delete", "namespace", stock.NAMESPACE, *gone)

    def deploy(self, prefect: SyncPrefectClient) -> UUID:
        """Deploy the empty flow, and return the id of the deployment."""
        return _deploy(prefect, stock.POOL, _PREFECT_COMMAND, self._variables)

    def check(self, logs: Collection[str]) -> None:
        """Raise RuntimeError if the run has loaded something of the platform."""
        if found := _modules(logs):
            raise RuntimeError(f"a run of the stock set-up has loaded {', '.join(found)}")


class Bare(SetUp):
    """Kubernetes alone, in which bare Jobs run. Nothing can be faster."""

    name = "Kubernetes alone"
    namespaces = ()
    jobs = "bare-jobs"

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def start(self) -> None:
        """Create the namespace of the Jobs."""
        self.stop()
        self._kubectl("create", "namespace", self.jobs)

    def stop(self) -> None:
        """Remove the namespace of the Jobs."""
        gone = ("--ignore-not-found", f"--timeout={_WITHIN:.0f}s")
        self._kubectl("delete", "namespace", self.jobs, *gone)


def _deploy(prefect: SyncPrefectClient, pool: str, command: str, variables: dict[str, Any]) -> UUID:
    return prefect.create_deployment(
        prefect.create_flow_from_name("empty"),
        name="comparison",
        entrypoint="empty.py:empty",
        work_pool_name=pool,
        pull_steps=[_WORKING_DIRECTORY],
        job_variables={**variables, "command": f"sh -c '{_WRITE} && exec {command}'"},
    )


def _modules(logs: Collection[str]) -> list[str]:
    """Return the modules of the platform that a run has loaded; RuntimeError if it did not say."""
    lines = [line.split() for text in logs for line in text.splitlines()]
    for words in lines:
        if words[:1] == [EXECUTED]:
            return words[1:]
    raise RuntimeError(f"the run has not printed {EXECUTED}: {logs}")


def _has_pool(prefect: SyncPrefectClient, pool: str) -> bool:
    try:
        return bool(prefect.read_work_pool(pool).base_job_template)
    except ObjectNotFound:
        return False


def _await_rollouts(kubectl: Kubectl, namespace: str, *kinds: str) -> None:
    here = f"--namespace={namespace}"
    for kind in kinds:
        for each in kubectl(here, "get", kind, "--output=name").split():
            kubectl(here, "rollout", "status", each, f"--timeout={_WITHIN:.0f}s")


def _await_no_pods(core: Any, namespace: str) -> None:  # noqa: ANN401 - untyped client
    """Wait until no pod of the namespace runs; RuntimeError names those that still do."""

    def running() -> list[str]:
        return [
            each.metadata.name
            for each in core.list_namespaced_pod(namespace).items
            if each.status.phase not in ("Succeeded", "Failed")
        ]

    if left := wait_while(running, _WITHIN, every=1):
        raise RuntimeError(f"pods of {namespace} have not stopped: {', '.join(left)}")
