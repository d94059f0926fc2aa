"""The real images, built or taken from the cache if they have not changed, and a registry."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from prefect_platform_cli.images.build import Image, build
from prefect_platform_cli.images.catalogue import RECIPES
from prefect_platform_cli.images.remote import Registry
from tests.integration.images import registries
from tests.integration.images.contained import Contained, Store


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """Return all images by name; their archive is a copy that later builds do not change."""
    if os.geteuid() != 0:
        pytest.skip("buildah needs root to build images")
    built = build([recipe.name for recipe in RECIPES], builder="buildah")
    (archive,) = {image.archive for image in built}
    copy = Path(shutil.copyfile(archive, tmp_path_factory.mktemp("images") / "images.tar"))
    return {image.name: replace(image, archive=copy) for image in built}


@pytest.fixture(scope="session")
def store(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store for this session, into which the images are unpacked."""
    unpacked = Store(tmp_path_factory.mktemp("store"))
    for image in images.values():
        unpacked.load(image.archive, image.reference)
    return unpacked


@pytest.fixture(scope="session")
def platform(images: dict[str, Image], store: Store) -> Contained:
    return Contained(images["platform"].reference, store)


@pytest.fixture(scope="session")
def flows(images: dict[str, Image], store: Store) -> Contained:
    return Contained(images["flows"].reference, store)


@pytest.fixture(scope="session")
def postgres(images: dict[str, Image], store: Store) -> Contained:
    return Contained(images["postgres"].reference, store)


@pytest.fixture(scope="session")
def redis(images: dict[str, Image], store: Store) -> Contained:
    return Contained(images["redis"].reference, store)


@pytest.fixture(scope="session")
def seaweedfs(images: dict[str, Image], store: Store) -> Contained:
    return Contained(images["seaweedfs"].reference, store)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.running(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def registry(host: str, request: pytest.FixtureRequest) -> Registry:
    """Return a path of the registry for one test alone."""
    return Registry(f"{host}/{request.node.originalname.replace('_', '-')}")
