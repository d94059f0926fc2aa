"""An image whose flows would fail in a job pod, or that contains a secret, is not pushed."""

from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images.base import choose_base
from prefect_platform_cli.images.build import Image, build_missing, sbom_file
from prefect_platform_cli.images.buildah import Buildah
from prefect_platform_cli.images.catalogue import Recipe, recipes, reference
from prefect_platform_cli.images.push import push
from prefect_platform_cli.images.remote import Registry
from tests.integration.images.contained import Store

_FLOW = "from prefect import flow\n@flow\ndef sales(): ...\n"
_CONNECT = "import socket; socket.create_connection(('127.0.0.1', {port}))\n"
_DEPLOYMENTS = """
pull: []
deployments:
  - {name: daily, entrypoint: "flows/etl.py:sales", work_pool: {name: default}}
"""
_DOCKERFILE = """
ARG BASE
FROM ${BASE}
USER 0:0
COPY prefect.yaml ./
COPY flows flows
RUN rm -f flows/.env && python -m prefect_platform.configuration.deployments.flow_image \\
        record prefect.yaml > flow-facts.json
USER 1000:1000
"""
# Built here, so that no file of this repository contains the form of a key.
_KEY = "-----BEGIN " + "PRIVATE KEY-----"


@pytest.fixture(scope="module")
def folder(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of builds whose builder has the image of the flows."""
    made = tmp_path_factory.mktemp("builds")
    Store(made / "buildah").load(images["flows"].archive, images["flows"].reference)
    return made


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Return an image of one flow, which is checked like that of ours."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "etl.py").write_text(_FLOW)
    (tmp_path / "prefect.yaml").write_text(_DEPLOYMENTS)
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    (ours,) = recipes(["flows"])
    return Recipe("flows", str(tmp_path), ("Dockerfile", "prefect.yaml", "flows"), check=ours.check)


def _refusal(recipe: Recipe, images: dict[str, Image], folder: Path, registry: Registry) -> str:
    """Return why an image is refused; fail if the registry has any image then."""
    with pytest.raises(PlatformError) as refused:
        push([recipe], registry, folder, builder="buildah", base=images["flows"].reference)
    tags = [line.rpartition(":")[2] for line in Buildah(folder / "buildah").references()]
    assert [tag for tag in tags if registry.find("flows", tag)] == []
    return refused.value.message


def test_an_image_that_keeps_the_contract_is_accepted(
    recipe: Recipe, images: dict[str, Image], folder: Path
) -> None:
    base = choose_base(images["flows"].reference)
    built = reference(recipe, base.identity)

    build_missing([recipe], {"flows": built}, base, folder, builder="buildah", engine_host=None)

    assert recipe.check
    assert sbom_file(folder, built).exists()


def test_a_flow_that_needs_a_network_to_import_is_named_with_its_deployment(
    recipe: Recipe, images: dict[str, Image], folder: Path, host: str, tmp_path: Path
) -> None:
    # The build has the network of the machine, so only the check can refuse it.
    connect = _CONNECT.format(port=host.rpartition(":")[2])
    (tmp_path / "flows" / "etl.py").write_text(f"{_FLOW}{connect}")

    refusal = _refusal(recipe, images, folder, Registry(f"{host}/network"))

    assert "the deployment daily (flows/etl.py:sales): flows/etl.py cannot be loaded: " in refusal
    assert "(flows/etl.py, line 4)" in refusal


def test_a_secret_that_a_later_step_deletes_is_named_by_its_file(
    recipe: Recipe, images: dict[str, Image], folder: Path, host: str, tmp_path: Path
) -> None:
    (tmp_path / "flows" / ".env").write_text(f"{_KEY}\n")

    refusal = _refusal(recipe, images, folder, Registry(f"{host}/secret"))

    assert "/opt/prefect/flows/.env, line 1, contains a secret (Private Key)" in refusal


def test_an_image_that_runs_as_root_is_refused(
    recipe: Recipe, images: dict[str, Image], folder: Path, host: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE.replace("USER 1000:1000", "USER prefect"))

    refusal = _refusal(recipe, images, folder, Registry(f"{host}/user"))

    assert "its user is prefect: Kubernetes can only verify that a user is not root" in refusal


def test_the_check_runs_as_in_a_hardened_pod(images: dict[str, Image], folder: Path) -> None:
    interfaces = "import socket; print(*(name for _, name in socket.if_nameindex()))"
    ended = Buildah(folder / "buildah").run_hardened(
        images["flows"].reference,
        [
            "sh",
            "-c",
            f'id -u; python -c "{interfaces}"; touch /opt/prefect/x /home/prefect/x /tmp/x',
        ],
    )

    assert ended.stdout.split() == ["1000", "lo"]
    assert [line.partition("'")[2] for line in ended.stderr.splitlines()] == [
        "/opt/prefect/x': Read-only file system",
        "/home/prefect/x': Read-only file system",
    ]
