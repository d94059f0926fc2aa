"""The digests of one environment are promoted to another, in a real repository and registry."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images.catalogue import Recipe
from prefect_platform_cli.images.environment import Images, read, write
from prefect_platform_cli.images.promotion import promote
from prefect_platform_cli.images.remote import REVISION
from tests.integration.images import registries
from tests.integration.images.contained import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="buildah needs root to build images")

_RECIPES = [Recipe("flows", "flows", ("code",)), Recipe("platform", "src", ("code",))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@dataclass(frozen=True)
class Repository:
    """A repository with two environments, whose images are in the registry `address`."""

    folder: Path
    address: str
    store: Store

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", self.folder, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    def change(self, folder: str, subject: str, label: str | None = None) -> str:
        """Commit another content of an image's file; return the digest of the pushed image.

        `label` replaces the commit in the image's label.
        """
        code = self.folder / folder / "code"
        code.parent.mkdir(exist_ok=True)
        code.write_text(subject)
        self.git("add", ".")
        self.git("commit", "--message", subject)
        return registries.publish(
            self.store,
            f"{self.address}/{'flows' if folder == 'flows' else 'platform'}:{folder}",
            subject,
            f"--label={REVISION}={label or self.git('rev-parse', 'HEAD')}",
        )

    def images(self, environment: str) -> Path:
        return self.folder / "k8s" / "environments" / environment / "images.yaml"

    def set(self, environment: str, **digests: str) -> None:
        """Commit the images of an environment."""
        self.images(environment).parent.mkdir(parents=True, exist_ok=True)
        write(self.images(environment), Images(self.address, digests))
        self.git("add", ".")
        self.git("commit", "--message", f"Deploy to {environment}")


@pytest.fixture
def repository(
    host: str,
    store: Store,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Repository:
    """Return a repository in which staging is ahead of production by two commits of the flows."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Tests")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tests@example.org")
    made = Repository(tmp_path, f"{host}/{request.node.originalname.replace('_', '-')}", store)
    made.git("init", "--quiet")
    platform = made.change("src", "Start the platform")
    made.set("production", flows=made.change("flows", "Extract"), platform=platform)
    made.change("flows", "Transform")
    made.set("staging", flows=made.change("flows", "Load"), platform=platform)
    return made


def test_the_same_digests_are_committed_with_the_commits_that_come_with_them(
    repository: Repository,
) -> None:
    promoted = promote("staging", "production", repository=repository.folder, recipes=_RECIPES)
    assert promoted is not None
    (flows,) = promoted

    assert flows.name == "flows"
    assert [line.partition(" ")[2] for line in flows.commits] == ["Load", "Transform"]
    assert read(repository.images("production")) == read(repository.images("staging"))
    committed = repository.git("show", "--name-only", "--format=%s", "HEAD").split("\n")
    assert committed == [
        "Promote the images of staging to production",
        "",
        "k8s/environments/production/images.yaml",
    ]


def test_promoting_again_commits_nothing(repository: Repository) -> None:
    promote("staging", "production", repository=repository.folder, recipes=_RECIPES)
    before = repository.git("rev-parse", "HEAD")

    assert promote("staging", "production", repository=repository.folder, recipes=_RECIPES) is None
    assert repository.git("rev-parse", "HEAD") == before


def test_a_label_that_is_no_commit_is_not_an_option_of_git(repository: Repository) -> None:
    victim = repository.folder.with_name("victim")
    victim.write_text("untouched")
    for environment, label in (("production", "--output="), ("staging", "/victim")):
        repository.set(environment, flows=repository.change("flows", environment, label))

    promoted = promote("staging", "production", repository=repository.folder, recipes=_RECIPES)

    assert promoted is not None
    assert [image.commits for image in promoted] == [["up to an unknown commit"]]
    assert victim.read_text() == "untouched"


def test_a_digest_that_the_registry_lacks_changes_nothing(repository: Repository) -> None:
    absent = f"sha256:{'0' * 64}"
    repository.set("staging", flows=absent)

    refusal = _refused(repository)

    image = f"{repository.address}/flows@{absent}"
    host = repository.address.partition("/")[0]
    assert refusal.message == f"the registry {host} has no {image}"
    assert "make push" in refusal.next_step


def test_staged_changes_are_refused(repository: Repository) -> None:
    (repository.folder / "other").touch()
    repository.git("add", "other")

    assert (
        "the index has changes that are not committed, such as other"
        in _refused(repository).message
    )


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_images_that_are_not_committed_are_refused(
    repository: Repository, environment: str
) -> None:
    write(repository.images(environment), Images(repository.address, {}))

    name = f"k8s/environments/{environment}/images.yaml"
    assert _refused(repository).message.startswith(f"{name} has changes")


def test_a_commit_that_git_refuses_leaves_the_file_as_it_was(repository: Repository) -> None:
    hook = repository.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho the hook refuses\nexit 1\n")
    hook.chmod(0o755)

    assert "the hook refuses" in _refused(repository).message


def _refused(repository: Repository) -> PlatformError:
    """Return why the promotion is refused; fail if it changes anything."""
    before = repository.git("rev-parse", "HEAD"), repository.images("production").read_text()
    with pytest.raises(PlatformError) as refusal:
        promote("staging", "production", repository=repository.folder, recipes=_RECIPES)
    after = repository.git("rev-parse", "HEAD"), repository.images("production").read_text()
    assert after == before
    return refusal.value
