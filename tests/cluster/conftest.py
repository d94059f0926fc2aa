"""One kind cluster for all tests of this folder, with the platform that `deploy` installs."""

import os
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from pytest_kind.cluster import KindCluster

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.chaos.faults import chosen
from tests.chaos.target import Target
from tests.chaos.trial import run_trial
from tests.chaos.validators import judge
from tests.cluster import cronjobs
from tests.cluster.deployed import CLUSTER, Platform, command
from tests.cluster.evidence import evidence
from tests.cluster.ha_server import Server, ha_server
from tests.cluster.older_prefect import load_older
from tests.support import executed_commands
from tests.support.requirements import makes_clusters
from tests.support.timings import EVIDENCE

_NAMESPACES = (*names.NAMESPACES, "kube-system")
# These run last, in this order. The last three need the server in mode ha, and the first of them
# switches it permanently. All other tests need the server as it is declared.
_LAST = (
    *("test_secrets_stay_secret.py", "test_high_availability.py"),
    *("test_isolation.py", "test_upgrade.py"),
)
_RUNS_OF_A_TRIAL = 5
_COLD_DEPLOY = 3600  # seconds, on a machine that has not built anything yet


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of this folder, and skip them if no cluster can be created here."""
    own = [at for at, item in enumerate(items) if Path(__file__).parent in item.path.parents]
    ordered = sorted((items[at] for at in own), key=_position)
    for at, item in zip(own, ordered, strict=True):
        items[at] = item
    if ordered:
        ordered[0].add_marker(pytest.mark.timeout(_COLD_DEPLOY))
    if makes_clusters():
        return
    for item in ordered:
        item.add_marker(pytest.mark.skip(reason="needs Docker, or root on Debian or Ubuntu"))


def _position(item: pytest.Item) -> int:
    return _LAST.index(item.path.name) + 1 if item.path.name in _LAST else 0


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """Deploy the platform and suspend its CronJobs; remove it at the end."""
    _destroy()  # an earlier run that was killed leaves its cluster, with what its tests changed
    recording = executed_commands.recorded if executed_commands.available() else nullcontext
    try:
        with recording() as seen:
            deployed = command("deploy")
        assert deployed.returncode == 0, deployed.stderr
        kubectl = Kubectl(KindProvider(CLUSTER).kubeconfig())
        as_deployed = cronjobs.schedules(kubectl)
        cronjobs.suspend(kubectl)
        yield Platform(deployed.stdout + deployed.stderr, seen, kubectl, as_deployed)
    finally:
        _destroy()


def _destroy() -> None:
    """Remove the cluster of the tests, if there is one."""
    destroyed = command("destroy")
    assert destroyed.returncode == 0, destroyed.stderr


@pytest.fixture(scope="session")
def kind_cluster(platform: Platform, monkeypatch_session: pytest.MonkeyPatch) -> KindCluster:
    """Return pytest-kind's view of the same cluster."""
    provider = KindProvider(CLUSTER)
    for name, value in provider.environment().items():
        monkeypatch_session.setenv(name, os.path.expandvars(value))
    cluster = KindCluster(
        CLUSTER,
        kubeconfig=platform.kubectl.kubeconfig,
        kind_path=tool("kind"),
        kubectl_path=tool("kubectl"),
    )
    cluster.create()
    return cluster


@pytest.fixture(scope="session")
def monkeypatch_session() -> Iterator[pytest.MonkeyPatch]:
    """Patch the environment until the end of the session."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def prefect(platform: Platform) -> Iterator[SyncPrefectClient]:
    """Return a client of the platform's API."""
    with connected(platform.kubectl) as client:
        yield client


@pytest.fixture(scope="session")
def server(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Switch the platform's server to mode ha permanently, and return it."""
    return ha_server(platform.kubectl, tmp_path_factory.mktemp("ha") / "values.yaml")


@pytest.fixture(scope="session")
def older(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[str]]:
    """Load an image with the older Prefect into the nodes in the background, and yield its tag."""
    image = server("get", "deployment", "prefect-server", "-o=jsonpath={..containers[0].image}")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(load_older, image, tmp_path_factory.mktemp("older"))


@pytest.fixture
def violations(
    platform: Platform, record_property: Callable[[str, object], None]
) -> Callable[[str], tuple[str, ...]]:
    """Return a function that runs a trial with faults, and returns what it violates."""

    def violated(faults: str) -> tuple[str, ...]:
        where = Target(CLUSTER, platform.kubectl)
        history = run_trial(where, chosen(faults), _RUNS_OF_A_TRIAL)
        verdict = judge(history)
        record_property("verdict", verdict)
        sys.stdout.write(history.json())  # becomes part of the report of a test that failed
        return verdict.violations

    return violated


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add pods, events and logs of the cluster to the report of a test or fixture that failed."""
    report = yield
    used = (getattr(item, "funcargs", None) or {}).get("platform")
    if report.failed and used is not None:
        # pytest has copied the properties of the item to the report of its last phase.
        last = report if call.when == "teardown" else item
        last.user_properties.extend((EVIDENCE, line) for line in evidence(used.kubectl))
        # An error of a hook would end the whole run.
        with suppress(PlatformError):
            report.sections.extend(_details(used.kubectl))
    return report


def _details(kubectl: Kubectl) -> Iterator[tuple[str, str]]:
    yield "pods", kubectl("get", "pods", "--all-namespaces", "--output=wide")
    for namespace in _NAMESPACES:
        events = kubectl(f"--namespace={namespace}", "get", "events", "--sort-by=.lastTimestamp")
        yield f"events in {namespace}", "\n".join(events.splitlines()[-30:])
    logs = ("logs", "--selector=app.kubernetes.io/instance", "--all-containers", "--prefix")
    for namespace in ("prefect", "prefect-workers"):
        log = kubectl(f"--namespace={namespace}", *logs, "--tail=100", "--ignore-errors")
        yield f"logs of the pods in {namespace}", log
