"""Argo CD deploys the commit that is checked out, to a cluster of its own.

Meanwhile, a flow run is created every 20 seconds.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import prefect as pinned
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.deploy.argocd.repository import push, snapshot
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.kube.kubectl import Kubectl
from prefect_platform_cli.kube.names import SERVER_RELEASE, selector
from tests.chaos.api import call_when_possible
from tests.chaos.target import Target
from tests.cluster.deployed import deploy_code, eventually, final
from tests.cluster.older_prefect import DROPPED, REVISION, VERSION, load_older

# A second cluster takes minutes on two cores.
pytestmark = [pytest.mark.whole, pytest.mark.timeout(1800)]

_NAME = "platform-test-argocd"
_LOCAL = "k8s/environments/local"
_AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@localhost")
_SERVER = ("--namespace=prefect", "get", "deployment", "prefect-server", "--output=json")
_WORKER = (
    *("--namespace=prefect-workers", "get", "deployment", "prefect-worker-default"),
    "--output=json",
)
_LEASES = ("--namespace=prefect", "get", "pvc", "prefect-server-leases", "--output=json")
_API = selector(instance=SERVER_RELEASE, component="api")
_APPLICATIONS = ("--namespace=argocd", "get", "applications", "--output=json")
_SERVER_APPLICATION = "prefect-platform-local-server"
_WORKER_APPLICATION = "prefect-platform-local-worker"
_BEAT = """
from prefect import flow

@flow
def beat():
    return "done"
"""
_WEEKLY = """deployments:
  - name: weekly
    entrypoint: flows/etl_daily.py:etl_daily
    tags: [etl]
    parameters: {date: "2013-01-05"}
    work_pool: {name: default}
    schedules: []
"""


@dataclass(frozen=True)
class Checkout:
    """A repository with one commit of the files of this one, and how its first deploy went."""

    folder: Path
    printed: str
    seconds: float
    kubectl: Kubectl

    def commit(self, file: str, old: str, new: str) -> None:
        """Replace a text of a file, and commit that."""
        path = self.folder / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        _commit(self.folder, f"Change {file}")

    def revert(self) -> None:
        """Revert the newest commit."""
        git(self.folder, *_AUTHOR, "revert", "--no-edit", "HEAD")

    def deploy(self) -> None:
        """Deploy the newest commit."""
        deployed = _command(self.folder, "deploy-argocd")
        assert deployed.returncode == 0, deployed.stderr

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object of the cluster."""
        found: dict[str, Any] = json.loads(self.kubectl(*arguments))
        return found

    def push_server(self, values: dict[str, dict[str, Any]]) -> None:
        """Push a commit with other values of the server, and wait until Argo CD has applied it."""
        settings = {name: self._pushed(name) for name in ("server.yaml", "worker.yaml")}
        server = settings["server.yaml"]
        server |= {key: {**server.get(key, {}), **value} for key, value in values.items()}
        with snapshot(self.folder, settings) as clone:
            push(self.kubectl, clone)
            commit = git(clone, "rev-parse", "HEAD")
        refresh = "argocd.argoproj.io/refresh=normal"
        self.kubectl(
            "--namespace=argocd", "annotate", "applications", "--all", "--overwrite", refresh
        )

        def is_applied() -> bool:
            application = ("--namespace=argocd", "get", "application", _SERVER_APPLICATION)
            status = self.get(*application, "--output=json")["status"]
            synced, health = status["sync"], status["health"]["status"]
            return (synced["revision"], synced["status"], health) == (commit, "Synced", "Healthy")

        eventually(f"the server is as {commit[:12]} declares it", is_applied, within=600, every=2)

    def _pushed(self, name: str) -> dict[str, Any]:
        """Return the values of a release that were pushed into the cluster."""
        show = ("git", "-C", "/srv/platform.git", "show", f"main:{_LOCAL}/{name}")
        values: dict[str, Any] = yaml.safe_load(
            self.kubectl(
                *("--namespace=argocd", "exec", "statefulset/repository", "--container=git"),
                *("--", *show),
            )
        )
        return values

    def version(self) -> str:
        """Return the version of Prefect that the API has."""
        with connected(self.kubectl) as prefect:
            return prefect.api_version()

    def states(self) -> dict[str, tuple[str, str]]:
        """Return how each Application is synced, and its health."""
        return {
            item["metadata"]["name"]: (
                item.get("status", {}).get("sync", {}).get("status", ""),
                item.get("status", {}).get("health", {}).get("status", ""),
            )
            for item in self.get(*_APPLICATIONS)["items"]
        }

    def query_seconds(self) -> str:
        """Return how often the worker polls, as its Deployment says."""
        (container,) = self.get(*_WORKER)["spec"]["template"]["spec"]["containers"]
        (value,) = (
            each["value"]
            for each in container["env"]
            if each["name"] == "PREFECT_WORKER_QUERY_SECONDS"
        )
        return str(value)

    def has_deployment(self, name: str) -> bool:
        """Return whether the API has a deployment with this name."""
        with connected(self.kubectl) as prefect:
            try:
                prefect.read_deployment_by_name(name)
            except ObjectNotFound:
                return False
        return True


class Load:
    """Creates a run every 20 seconds, or as soon as the API is back."""

    def __init__(self, target: Target, thread: ThreadPoolExecutor) -> None:
        self._target = target
        self._over = Event()
        self._runs = thread.submit(self._create)

    def end(self) -> list[UUID]:
        """Create no more runs, and return all that were created."""
        self._over.set()
        return self._runs.result()

    def _create(self) -> list[UUID]:
        deployment = call_when_possible(self._target, partial(deploy_code, name="beat", code=_BEAT))
        runs: list[UUID] = []
        while not self._over.is_set():
            create = partial(_create_run, deployment=deployment, name=f"beat-{len(runs)}")
            runs.append(call_when_possible(self._target, create))
            self._over.wait(20)
        return runs


def _create_run(prefect: SyncPrefectClient, deployment: UUID, name: str) -> UUID:
    # A lost answer does not mean that there is no run.
    return prefect.create_flow_run_from_deployment(deployment, name=name, idempotency_key=name).id


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Commit the files of this repository to a new one, and deploy it to an empty cluster."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = git(REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    git(folder, "init", "--quiet")
    _commit(folder, "Begin")
    _command(folder, "destroy")
    began = time.monotonic()
    try:
        deployed = _command(folder, "deploy-argocd")
        assert deployed.returncode == 0, deployed.stderr
        kubectl = Kubectl(KindProvider(_NAME).kubeconfig())
        yield Checkout(folder, deployed.stdout, time.monotonic() - began, kubectl)
    finally:
        _command(folder, "destroy")


@pytest.fixture(scope="module", autouse=True)
def load(checkout: Checkout) -> Iterator[Load]:
    """Create a run every 20 seconds until the last test."""
    with ThreadPoolExecutor(1) as thread:
        load = Load(Target(_NAME, checkout.kubectl), thread)
        yield load
        load.end()


def test_an_empty_cluster_gets_the_parts_in_order_and_a_completed_run(
    checkout: Checkout, record_property: Callable[[str, object], None]
) -> None:
    record_property("seconds from nothing to a completed run", round(checkout.seconds))
    listed = checkout.get(*_APPLICATIONS)["items"]
    created = {item["metadata"]["name"]: item["metadata"]["creationTimestamp"] for item in listed}

    assert set(checkout.states().values()) == {("Synced", "Healthy")}
    assert sorted(created, key=lambda name: created[name]) == [
        "prefect-platform-local",
        "prefect-platform-local-namespaces",
        "prefect-platform-local-server",
        _WORKER_APPLICATION,
    ]
    assert "Completed" in checkout.printed
    assert "s3://artifacts/etl-daily/2013-01-01.parquet" in checkout.printed


def test_a_second_call_changes_nothing(checkout: Checkout) -> None:
    before = [checkout.get(*each)["metadata"]["generation"] for each in (_SERVER, _WORKER)]

    again = _command(checkout.folder, "deploy-argocd")

    assert "Nothing changed" in again.stdout, again.stderr
    assert [checkout.get(*each)["metadata"]["generation"] for each in (_SERVER, _WORKER)] == before


def test_a_change_by_hand_is_set_back(
    checkout: Checkout, record_property: Callable[[str, object], None]
) -> None:
    scale = ("--namespace=prefect-workers", "scale", "deployment", "prefect-worker-default")
    checkout.kubectl(*scale, "--replicas=2")
    began = time.monotonic()

    eventually(
        "the worker has one replica again",
        lambda: checkout.get(*_WORKER)["spec"]["replicas"] == 1,
        within=60,
    )
    record_property("seconds until a change by hand is set back", round(time.monotonic() - began))


def test_a_deployment_that_was_deleted_by_hand_is_created_again(checkout: Checkout) -> None:
    before = checkout.get(*_SERVER)["metadata"]["uid"]
    checkout.kubectl("--namespace=prefect", "delete", "deployment", "prefect-server")

    def is_created_again() -> bool:
        found = checkout.kubectl(*_SERVER, "--ignore-not-found")
        return bool(found) and json.loads(found)["metadata"]["uid"] != before

    eventually("the server has a Deployment again", is_created_again, within=60, every=1)
    _await_healthy(checkout)


def test_a_volume_of_leases_that_was_deleted_by_hand_is_created_again(checkout: Checkout) -> None:
    before = checkout.get(*_LEASES)["metadata"]["uid"]
    checkout.kubectl(
        "--namespace=prefect", "delete", "pvc", "prefect-server-leases", "--wait=false"
    )
    # Kubernetes keeps a volume until no pod uses it.
    checkout.kubectl("--namespace=prefect", "delete", "pods", f"--selector={_API}", "--wait=false")

    def is_created_again() -> bool:
        found = checkout.kubectl(*_LEASES, "--ignore-not-found")
        return bool(found) and json.loads(found)["metadata"]["uid"] != before

    eventually("the server has a volume of leases again", is_created_again, every=1)
    _await_healthy(checkout)


def test_an_application_that_was_deleted_by_hand_is_created_again_and_its_objects_stay(
    checkout: Checkout,
) -> None:
    before = checkout.get(*_WORKER)["metadata"]["uid"]
    checkout.kubectl("--namespace=argocd", "delete", "application", _WORKER_APPLICATION)

    eventually(
        "the Application is Synced and Healthy again",
        lambda: checkout.states().get(_WORKER_APPLICATION) == ("Synced", "Healthy"),
        every=2,
    )
    assert checkout.get(*_WORKER)["metadata"]["uid"] == before


def test_make_deploy_cluster_is_refused(checkout: Checkout) -> None:
    refused = _command(checkout.folder, "deploy")

    assert refused.returncode == 1
    assert "belongs to Argo CD's Application prefect-platform-local-server" in refused.stderr


def test_a_commit_changes_the_platform_although_argo_cd_restarts(checkout: Checkout) -> None:
    before = checkout.query_seconds()
    checkout.commit(f"{_LOCAL}/worker.yaml", "worker:\n", "worker:\n  querySeconds: 3\n")
    restart = (
        *("--namespace=argocd", "delete", "pods", "--wait=false"),
        "--selector=app.kubernetes.io/name in (argocd-application-controller,argocd-repo-server)",
    )

    with _started(checkout.folder, "deploy-argocd") as deploying:
        assert deploying.stderr is not None
        printed = [next(line for line in deploying.stderr if "✓ Push" in line)]
        checkout.kubectl(*restart)
        printed.extend(deploying.stderr)

    assert deploying.returncode == 0, printed
    assert before != "3"
    assert checkout.query_seconds() == "3"


def test_a_reverted_commit_sets_the_platform_back(checkout: Checkout) -> None:
    checkout.revert()
    checkout.deploy()

    assert checkout.query_seconds() != "3"


def test_a_commit_adds_a_deployment_with_a_new_image_and_its_revert_removes_it(
    checkout: Checkout,
) -> None:
    checkout.commit("prefect.yaml", "deployments:\n", _WEEKLY)
    checkout.deploy()
    added = checkout.has_deployment("etl-daily/weekly")
    checkout.revert()
    checkout.deploy()

    assert added
    assert not checkout.has_deployment("etl-daily/weekly")
    assert checkout.has_deployment("etl-daily/daily")


def test_commits_downgrade_prefect_and_upgrade_it_with_its_migration(
    checkout: Checkout, tmp_path: Path
) -> None:
    (container,) = checkout.get(*_SERVER)["spec"]["template"]["spec"]["containers"]
    older = load_older(container["image"], tmp_path, _NAME)

    # The newer image has the scripts that downgrade the database.
    checkout.push_server({"migrations": {"revision": REVISION, "mayLose": [*DROPPED]}})
    checkout.push_server({"image": {"tag": older}, "migrations": {"revision": "", "mayLose": []}})
    served = checkout.version()
    checkout.deploy()

    assert served == VERSION
    assert checkout.version() == pinned.__version__
    assert set(checkout.states().values()) == {("Synced", "Healthy")}


def test_a_bad_commit_is_reported_and_leaves_the_platform_running(checkout: Checkout) -> None:
    before = checkout.get(*_SERVER)
    checkout.commit(f"{_LOCAL}/server.yaml", "api:\n", "nonsense: true\napi:\n")

    refused = _command(checkout.folder, "deploy-argocd")
    after = checkout.get(*_SERVER)
    checkout.revert()
    checkout.deploy()

    assert refused.returncode == 1
    assert "Argo CD cannot deploy" in refused.stderr
    assert "nonsense" in refused.stderr
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["status"]["readyReplicas"] == 1


def test_every_run_that_was_created_meanwhile_ended_once_as_completed(
    checkout: Checkout, load: Load, record_property: Callable[[str, object], None]
) -> None:
    with connected(checkout.kubectl) as prefect:
        ends = {}
        for run in load.end():
            final(prefect, prefect.read_flow_run(run))
            ends[run] = [
                state.name for state in prefect.read_flow_run_states(run) if state.is_final()
            ]

    record_property("runs that were created meanwhile", len(ends))
    assert len(ends) > 10
    assert {run: names for run, names in ends.items() if names != ["Completed"]} == {}


def _await_healthy(checkout: Checkout) -> None:
    eventually(
        "every Application is Synced and Healthy",
        lambda: set(checkout.states().values()) == {("Synced", "Healthy")},
        within=300,
        every=2,
    )


def _commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, *_AUTHOR, "commit", "--quiet", f"--message={message}")


def _command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line tool of the repository in `folder`."""
    with _started(folder, *arguments) as process:
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command line tool of the repository in `folder`."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"DOCKER_HOST", "KUBECONFIG"}}
    return subprocess.Popen(
        [
            *(sys.executable, "-c", "from prefect_platform_cli.main import main; main()"),
            *arguments,
        ],
        env={
            **inherited,
            "PYTHONPATH": str(folder / "src"),
            "CLUSTER_NAME": _NAME,
            "COLUMNS": "200",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
