"""The commit that Argo CD deploys to the local cluster, made with git in a temporary clone."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from prefect_platform.errors import PlatformError
from prefect_platform_cli.deploy.argocd.repository import snapshot
from prefect_platform_cli.host.git import git

LOCAL = Path("k8s", "environments", "local")
SETTINGS = {"server.yaml": {"image": {"tag": "0123"}, "addresses": ["198.18.0.2"]}}


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
