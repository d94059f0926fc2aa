"""Images are pushed to a real registry once, and keep their digests."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.images.catalogue import Recipe
from prefect_platform_cli.images.push import Pushed, push
from prefect_platform_cli.images.remote import Registry
from tests.integration.images import registries
from tests.support.servers import free_ports

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="buildah needs root to build images")

_PACKAGE = "Package: example\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"


@pytest.fixture(scope="module")
def locked_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.running(tmp_path_factory.mktemp("locked"), password=True) as started:
        yield started


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    context = tmp_path / "context"
    context.mkdir()
    (context / "status").write_text(_PACKAGE)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY status /var/lib/dpkg/status\n")
    return Recipe("example", str(context), ("Dockerfile", "status"))


def _push(recipe: Recipe, registry: Registry, folder: Path) -> Pushed:
    (pushed,) = push([recipe], registry, folder, builder="buildah", base="scratch")
    return pushed


def test_an_image_that_another_machine_has_pushed_is_neither_built_nor_pushed_again(
    recipe: Recipe, registry: Registry, tmp_path: Path
) -> None:
    first = _push(recipe, registry, tmp_path / "one machine")
    second = _push(recipe, registry, tmp_path / "another machine")

    assert (first.is_new, second.is_new) == (True, False)
    assert first.digest == second.digest
    assert [path.name for path in (tmp_path / "another machine").iterdir()] == ["lock"]


def test_a_changed_file_gives_a_new_digest(
    recipe: Recipe, registry: Registry, tmp_path: Path
) -> None:
    first = _push(recipe, registry, tmp_path / "builds")
    Path(recipe.context, "status").write_text(f"{_PACKAGE}Description: new\n")
    second = _push(recipe, registry, tmp_path / "builds")

    assert second.is_new
    assert first.digest != second.digest


def test_the_list_of_its_packages_is_attached_to_an_image(
    recipe: Recipe, registry: Registry, tmp_path: Path
) -> None:
    pushed = _push(recipe, registry, tmp_path / "builds")

    image = f"{registry.address}/example@{pushed.digest}"
    found = json.loads(_oras("discover", image, "--format=json"))
    (attached,) = found["referrers"]
    _oras("pull", attached["reference"], f"--output={tmp_path / 'pulled'}")
    (sbom,) = (tmp_path / "builds" / "sboms").iterdir()
    assert attached["artifactType"] == "application/spdx+json"
    assert (tmp_path / "pulled" / sbom.name).read_bytes() == sbom.read_bytes()


def test_a_push_that_was_interrupted_before_the_list_is_completed(
    recipe: Recipe, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "attach", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _push(recipe, registry, tmp_path / "builds")
    pushed = _push(recipe, registry, tmp_path / "builds")

    assert pushed.is_new
    assert not _push(recipe, registry, tmp_path / "builds").is_new


def test_the_credentials_of_a_login_are_used(
    recipe: Recipe, locked_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registries.log_in(locked_host, registries.PASSWORD, tmp_path, monkeypatch)

    pushed = _push(recipe, Registry(f"{locked_host}/ours"), tmp_path / "builds")

    assert pushed.is_new


def test_wrong_credentials_are_named_before_anything_is_built(
    recipe: Recipe, locked_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = registries.log_in(locked_host, "wrong", tmp_path, monkeypatch)

    with pytest.raises(PlatformError) as refusal:
        _push(recipe, Registry(f"{locked_host}/refused"), tmp_path / "builds")

    assert refusal.value.message == f"the registry {locked_host} refuses the credentials in {file}"
    assert refusal.value.next_step == f"docker login {locked_host}"
    assert [path.name for path in (tmp_path / "builds").iterdir()] == ["lock"]


def test_a_registry_that_does_not_answer_is_named_before_anything_is_built(
    recipe: Recipe, tmp_path: Path
) -> None:
    (port,) = free_ports(1)

    with pytest.raises(PlatformError, match=f"the registry 127.0.0.1:{port} does not answer"):
        _push(recipe, Registry(f"127.0.0.1:{port}/ours"), tmp_path / "builds")

    assert [path.name for path in (tmp_path / "builds").iterdir()] == ["lock"]


def _oras(verb: str, *arguments: str) -> str:
    return subprocess.run(
        [tool("oras"), verb, "--plain-http", *arguments], check=True, capture_output=True, text=True
    ).stdout
