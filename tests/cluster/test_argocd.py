"""Argo CD deploys the commit that is checked out, to a cluster of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.deployed import eventually

# A second cluster takes minutes on two cores.
pytestmark = [pytest.mark.whole, pytest.mark.timeout(1800)]

_NAME = "platform-test-argocd"
_AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@localhost")
_SERVER = ("--namespace=prefect", "get", "deployment", "prefect-server", "--output=json")
_WORKER = (
    *("--namespace=prefect-workers", "get", "deployment", "prefect-worker-default"),
    "--output=json",
)


@dataclass(frozen=True)
class Checkout:
    """A repository with one commit of the files of this one, and what its first deploy printed."""

    folder: Path
    printed: str
    kubectl: Kubectl

    def commit(self, file: str, old: str, new: str) -> None:
        """Replace a text of a file of the local environment, and commit that."""
        path = self.folder / "k8s" / "environments" / "local" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        _commit(self.folder, f"Change {file}")

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object of the cluster."""
        found: dict[str, Any] = json.loads(self.kubectl(*arguments))
        return found


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
    try:
        deployed = _command(folder, "deploy-argocd")
        assert deployed.returncode == 0, deployed.stderr
        yield Checkout(folder, deployed.stdout, Kubectl(KindProvider(_NAME).kubeconfig()))
    finally:
        _command(folder, "destroy")


def test_an_empty_cluster_gets_the_parts_in_order_and_a_completed_run(checkout: Checkout) -> None:
    listed = checkout.get("--namespace=argocd", "get", "applications", "--output=json")["items"]
    created = {item["metadata"]["name"]: item["metadata"]["creationTimestamp"] for item in listed}
    states = {
        (item["status"]["sync"]["status"], item["status"]["health"]["status"]) for item in listed
    }

    assert states == {("Synced", "Healthy")}
    assert sorted(created, key=lambda name: created[name]) == [
        "prefect-platform-local",
        "prefect-platform-local-namespaces",
        "prefect-platform-local-server",
        "prefect-platform-local-worker",
    ]
    assert "Completed" in checkout.printed
    assert "s3://artifacts/etl-daily/2013-01-01.parquet" in checkout.printed


def test_a_second_call_changes_nothing(checkout: Checkout) -> None:
    before = [checkout.get(*each)["metadata"]["generation"] for each in (_SERVER, _WORKER)]

    again = _command(checkout.folder, "deploy-argocd")

    assert "Nothing changed" in again.stdout, again.stderr
    assert [checkout.get(*each)["metadata"]["generation"] for each in (_SERVER, _WORKER)] == before


def test_a_change_by_hand_is_set_back(checkout: Checkout) -> None:
    scale = ("--namespace=prefect-workers", "scale", "deployment", "prefect-worker-default")
    checkout.kubectl(*scale, "--replicas=2")

    eventually(
        "the worker has one replica again",
        lambda: checkout.get(*_WORKER)["spec"]["replicas"] == 1,
        within=60,
    )


def test_make_deploy_cluster_is_refused(checkout: Checkout) -> None:
    refused = _command(checkout.folder, "deploy")

    assert refused.returncode == 1
    assert "belongs to Argo CD's Application prefect-platform-local-server" in refused.stderr


def test_a_commit_changes_the_platform(checkout: Checkout) -> None:
    checkout.commit("worker.yaml", "querySeconds: 2", "querySeconds: 3")

    deployed = _command(checkout.folder, "deploy-argocd")

    assert deployed.returncode == 0, deployed.stderr
    (container,) = checkout.get(*_WORKER)["spec"]["template"]["spec"]["containers"]
    assert {"name": "PREFECT_WORKER_QUERY_SECONDS", "value": "3"} in container["env"]


def test_a_bad_commit_is_reported_and_leaves_the_platform_running(checkout: Checkout) -> None:
    before = checkout.get(*_SERVER)
    checkout.commit("server.yaml", "api:\n", "nonsense: true\napi:\n")

    refused = _command(checkout.folder, "deploy-argocd")
    after = checkout.get(*_SERVER)
    git(checkout.folder, *_AUTHOR, "revert", "--no-edit", "HEAD")
    reverted = _command(checkout.folder, "deploy-argocd")

    assert refused.returncode == 1
    assert "Argo CD cannot deploy" in refused.stderr
    assert "nonsense" in refused.stderr
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["status"]["readyReplicas"] == 1
    assert reverted.returncode == 0, reverted.stderr


def _commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, *_AUTHOR, "commit", "--quiet", f"--message={message}")


def _command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line tool of the repository in `folder`."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"DOCKER_HOST", "KUBECONFIG"}}
    return subprocess.run(
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
        capture_output=True,
        text=True,
        check=False,
    )
