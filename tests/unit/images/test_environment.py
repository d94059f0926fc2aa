"""The images.yaml of an environment, and what a push refuses before it asks a registry."""

import subprocess
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.credentials import credentials_file
from prefect_platform_cli.images.environment import Images, images_file, read, write
from prefect_platform_cli.images.push import refuse_uncommitted
from prefect_platform_cli.images.remote import Registry

_IMAGES = Images("registry.example.org/ours", {"flows": f"sha256:{'0' * 64}"})


def test_what_is_written_is_read_back_and_writing_it_again_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"

    assert write(file, _IMAGES)
    assert read(file) == _IMAGES
    assert not write(file, _IMAGES)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_file_of_an_environment_is_as_it_would_be_written(
    environment: str, tmp_path: Path
) -> None:
    file = images_file(environment)
    again = tmp_path / environment / file.name
    again.parent.mkdir()

    write(again, read(file))

    assert again.read_text() == file.read_text()


def test_an_environment_without_the_file_is_refused() -> None:
    with pytest.raises(PlatformError, match=r"environment local has no images\.yaml") as refusal:
        images_file("local")
    assert refusal.value.next_step == "use one of production, staging"


@pytest.mark.parametrize("text", ["", "global: {imageTag: 7}", "global: ["])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(text)

    with pytest.raises(PlatformError, match=f"{file} cannot be read"):
        read(file)


@pytest.mark.parametrize("address", ["", "registry.example.org", "https://example.org/ours", "a/B"])
def test_an_address_that_is_not_a_host_and_a_path_is_refused(address: str) -> None:
    with pytest.raises(PlatformError, match=f"REGISTRY={address} is not the address of a registry"):
        Registry(address)


def test_only_files_other_than_the_images_have_to_be_committed(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    images = tmp_path / "k8s" / "environments" / "staging" / "images.yaml"
    images.parent.mkdir(parents=True)
    write(images, _IMAGES)
    refuse_uncommitted(tmp_path)

    (tmp_path / "flow.py").touch()

    with pytest.raises(PlatformError, match=r"flow\.py has changes that are not committed"):
        refuse_uncommitted(tmp_path)


def test_the_credentials_are_those_of_the_first_file_that_names_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    for variable in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    podman = tmp_path / "XDG_RUNTIME_DIR" / "containers" / "auth.json"
    docker = tmp_path / "DOCKER_CONFIG" / "config.json"
    for file, hosts in ((podman, '{"a.example.org": {}}'), (docker, '{"b.example.org": {}}')):
        file.parent.mkdir(parents=True)
        file.write_text(f'{{"auths": {hosts}}}')

    assert credentials_file("a.example.org") == podman
    assert credentials_file("b.example.org") == docker
    assert credentials_file("c.example.org") is None
