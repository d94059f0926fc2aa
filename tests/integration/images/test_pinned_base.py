"""The base is pinned to what its tag names in a real registry."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images.buildah import Buildah
from prefect_platform_cli.images.builder import Order
from prefect_platform_cli.images.pinned_base import PinnedBase, pin_base, pinned_base
from tests.integration.images import registries
from tests.integration.images.contained import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="buildah needs root to build images")

_CREATED = "--timestamp=1700000000"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.running(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("kind", ["index", "image"])
def test_the_pin_is_the_digest_and_the_creation_time_of_the_tag(
    registry: str, store: Store, tmp_path: Path, kind: str
) -> None:
    name = f"{registry}/library/python:{kind}"
    digest = registries.publish(store, name, "system", _CREATED, index=kind == "index")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"# A system.\nARG BASE={name}\nFROM ${{BASE}}\n")

    pinned, changed = pin_base(dockerfile)
    again = pin_base(dockerfile)

    assert changed
    assert pinned.reference == f"{name}@{digest}"
    assert pinned.created is not None
    assert pinned.created.isoformat() == "2023-11-14T22:13:20+00:00"
    assert again == (pinned, False)
    assert pinned_base(dockerfile) == pinned
    assert dockerfile.read_text().splitlines() == [
        "# A system.",
        f"# {digest} was created at 2023-11-14T22:13:20+00:00",
        f"ARG BASE={name}@{digest}",
        "FROM ${BASE}",
    ]


def test_images_keep_their_base_when_the_tag_moves_until_the_pin_is_renewed(
    registry: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{registry}/library/python:moves"
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"ARG BASE={name}\nFROM ${{BASE}}\n")
    trusted = tmp_path / "registries.conf"
    trusted.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(trusted))

    first = registries.publish(store, name, "first", _CREATED, index=True)
    pin_base(dockerfile)
    second = registries.publish(store, name, "second", "--timestamp=1800000000", index=True)
    before = _layers_of_a_build(pinned_base(dockerfile), dockerfile, tmp_path / "before")
    renewed, changed = pin_base(dockerfile)
    after = _layers_of_a_build(renewed, dockerfile, tmp_path / "after")

    assert first != second
    assert (renewed.digest, changed) == (second, True)
    assert before != after


def _layers_of_a_build(base: PinnedBase, dockerfile: Path, folder: Path) -> list[str]:
    """Build an image from `base` and nothing else; return the digests of its layers."""
    reference = "prefect-platform.local/example:1"
    Buildah(folder).build(
        Order(reference, dockerfile.parent, folder / "log", arguments={"BASE": base.reference})
    )
    inspected = Store(folder).buildah("inspect", "--type", "image", reference)
    layers: list[str] = json.loads(inspected)["OCIv1"]["rootfs"]["diff_ids"]
    return layers


def test_a_tag_that_the_registry_does_not_have_changes_nothing(
    registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/library/python:unknown"
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"ARG BASE={name}\n")
    with pytest.raises(PlatformError) as refusal:
        pin_base(dockerfile)
    assert refusal.value.message == f"{registry} answers with status 404 when asked for {name}"
    assert "check that the image and its tag exist" in refusal.value.next_step
    assert dockerfile.read_text() == f"ARG BASE={name}\n"
