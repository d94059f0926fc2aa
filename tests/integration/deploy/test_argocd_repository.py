"""The commit that Argo CD deploys to the local cluster, made with git in a temporary clone."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.argocd.repository import push, refuse_shallow, snapshot
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.toolchain import version
from prefect_platform_cli.kube.kubectl import Kubectl

LOCAL = Path("k8s", "environments", "local")
SETTINGS = {"server.yaml": {"image": {"tag": "0123"}, "addresses": ["198.18.0.2"]}}
# Stands in for kubectl, whose exec needs a node: runs the command of the pod here.
_KUBECTL = """#!/bin/sh
case "$1" in version) echo "Client Version: {version}"; exit ;; esac
test -f "$2" || exit 1
while [ "$1" != -- ]; do shift; done
exec "$2" "{repository}"
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with one commit."""
    (tmp_path / LOCAL).mkdir(parents=True)
    write(tmp_path, "image: {tag: '', pullPolicy: Never}\naddresses: [198.18.0.1]\nmode: single\n")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def write(repository: Path, values: str) -> None:
    (repository / LOCAL / "server.yaml").write_text(values)


def commit(repository: Path) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    git(repository, "add", "--all")
    git(repository, *author, "commit", "--quiet", "--message=test")


def snapshot_of(repository: Path, settings: Mapping[str, Mapping[str, object]]) -> str:
    with snapshot(repository, settings) as clone:
        return git(clone, "rev-parse", "HEAD")


def test_settings_are_merged_into_the_values_as_helm_does(repository: Path) -> None:
    with snapshot(repository, SETTINGS) as clone:
        values = yaml.safe_load(git(clone, "show", f"HEAD:{LOCAL}/server.yaml"))
        images = yaml.safe_load(git(clone, "show", f"HEAD:{LOCAL}/images.yaml"))

    assert values == {
        "image": {"tag": "0123", "pullPolicy": "Never"},
        "addresses": ["198.18.0.2"],
        "mode": "single",
    }
    assert images == {}


def test_the_parent_is_the_commit_that_is_checked_out(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    write(repository, "mode: ha\n")
    commit(repository)
    git(repository, "checkout", "--quiet", first)

    with snapshot(repository, SETTINGS) as clone:
        assert git(clone, "rev-parse", "HEAD^") == first


def test_the_same_commit_and_settings_give_the_same_commit(repository: Path) -> None:
    again = {"server.yaml": {"image": {"tag": "4567"}}}

    assert snapshot_of(repository, SETTINGS) == snapshot_of(repository, SETTINGS)
    assert snapshot_of(repository, SETTINGS) != snapshot_of(repository, again)


def test_the_identity_of_the_user_does_not_change_the_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot_of(repository, SETTINGS)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")

    assert snapshot_of(repository, SETTINGS) == before


def test_a_shallow_clone_is_refused_with_the_command_that_completes_it(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(repository, "mode: ha\n")
    commit(repository)
    shallow = tmp_path_factory.mktemp("shallow")
    git(shallow, "clone", "--quiet", "--depth=1", f"file://{repository}", ".")

    with pytest.raises(PlatformError) as refused:
        refuse_shallow(shallow)

    assert f"{shallow} is a shallow clone" in refused.value.message
    assert refused.value.next_step == "git fetch --unshallow"
    git(shallow, "fetch", "--quiet", "--unshallow")
    refuse_shallow(shallow)
    assert snapshot_of(shallow, SETTINGS) == snapshot_of(repository, SETTINGS)


def test_a_commit_is_pushed_once_by_a_kubectl_in_any_folder(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("with 100% spaces")
    bare, client, kubeconfig = (folder / name for name in ("git", "kubectl", "kubeconfig"))
    git(folder, "init", "--quiet", "--bare", bare)
    client.write_text(_KUBECTL.format(version=version("kubectl"), repository=bare))
    client.chmod(0o755)
    kubeconfig.touch()
    monkeypatch.setenv("CLIENTS", "path")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    with snapshot(repository, SETTINGS) as clone:
        assert push(Kubectl(kubeconfig), clone)
        assert git(bare, "rev-parse", "main") == git(clone, "rev-parse", "HEAD")
        assert not push(Kubectl(kubeconfig), clone)


def test_the_repository_of_the_user_is_not_changed(repository: Path) -> None:
    before = sorted(repository.rglob("*"))

    snapshot_of(repository, SETTINGS)

    assert sorted(repository.rglob("*")) == before
    assert git(repository, "status", "--porcelain") == ""


def test_a_file_that_is_not_yaml_is_named(repository: Path) -> None:
    write(repository, "mode: [")
    commit(repository)

    with pytest.raises(PlatformError) as refused:
        snapshot_of(repository, SETTINGS)

    assert f"{LOCAL}/server.yaml cannot be read" in refused.value.message
