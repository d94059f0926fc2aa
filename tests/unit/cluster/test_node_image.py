"""The node image contains every image that the cluster requests, under the same reference."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_platform_cli.cluster.node_image import node_image
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import version

_KIND = REPOSITORY / "k8s" / "kind"
_HELD = {component.reference for component in node_image._COMPONENTS}


def _requested_images() -> Iterator[tuple[str, str]]:
    for path in sorted({*_KIND.glob("*.yaml"), *(_KIND / "node-image").rglob("*.yaml")}):
        for image in re.findall(r"^\s*(?:- )?image: (\S+)", path.read_text(), re.MULTILINE):
            yield path.name, image


@pytest.mark.parametrize(("manifest", "image"), sorted(set(_requested_images())))
def test_the_node_image_contains_every_image_in_our_manifests(manifest: str, image: str) -> None:
    assert image in _HELD, manifest


def test_the_node_image_contains_the_helper_image_of_the_default_storage() -> None:
    # local-path-provisioner starts helper pods from an image that its configuration names.
    manifest = (_KIND / "node-image/rootfs/kind/manifests/default-storage.yaml").read_text()
    started = re.findall(r"prefect-platform\.local/\S+?:\w+", manifest)
    assert started
    assert set(started) <= _HELD


def test_the_node_image_contains_the_pod_sandbox_image() -> None:
    config = tomllib.loads((_KIND / "node-image/rootfs/etc/containerd/config.toml").read_text())
    images = config["plugins"]["io.containerd.cri.v1.images"]
    assert images["pinned_images"]["sandbox"] in _HELD


@pytest.mark.parametrize("name", ["kube-apiserver", "metrics-server", "local-path-provisioner"])
def test_an_image_is_tagged_with_the_version_of_its_program(name: str) -> None:
    [reference] = [each for each in _HELD if each.rpartition(":")[0].endswith(f"/{name}")]
    assert reference.rpartition(":")[2] == version(name)


@pytest.mark.parametrize("change", ["content", "executable bit", "another file"])
@pytest.mark.parametrize(
    ("folder", "name"), [("_SOURCE", "rootfs/program"), ("_NETWORK_POLICY", "agent.py")]
)
def test_a_change_to_any_input_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str, change: str
) -> None:
    source = tmp_path / name
    source.parent.mkdir(exist_ok=True)
    source.write_text("#!/bin/sh")
    monkeypatch.setattr(node_image, "REPOSITORY", Path("/"))
    monkeypatch.setattr(node_image, folder, tmp_path)
    before = node_image._fingerprint()
    assert node_image._fingerprint() == before
    if change == "content":
        source.write_text("#!/bin/dash")
    elif change == "executable bit":
        source.chmod(0o755)
    else:
        (source.parent / "more").touch()
    assert node_image._fingerprint() != before
