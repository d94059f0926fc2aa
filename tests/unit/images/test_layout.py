"""Archives contain the requested images, each layer once, and unused blobs are removed."""

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from prefect_platform_cli.images.layout import Layout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a layout with two images that share a layer, and a layer of an interrupted export."""
    entries = []
    for name, layers in {"a:1": ["shared", "only a"], "b:2": ["shared", "only b"]}.items():
        manifest = {
            "config": _blob(tmp_path, f"config of {name}"),
            "layers": [_blob(tmp_path, layer) for layer in layers],
        }
        entries.append(
            {
                **_blob(tmp_path, json.dumps(manifest)),
                "annotations": {"org.opencontainers.image.ref.name": name},
            }
        )
    _blob(tmp_path, "interrupted")
    (tmp_path / "index.json").write_text(json.dumps({"manifests": entries}))
    return tmp_path


def _blob(folder: Path, content: str) -> dict[str, str]:
    digest = hashlib.sha256(content.encode()).hexdigest()
    path = folder / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return {"digest": f"sha256:{digest}"}


def _contents(folder: Path) -> set[str]:
    return {blob.read_text() for blob in (folder / "blobs" / "sha256").iterdir()}


def _unpacked(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as packed:
        names = packed.getnames()
        assert len(names) == len(set(names))
        return {name: packed.extractfile(name).read().decode() for name in names}  # type: ignore[union-attr]


def test_an_archive_of_one_image_contains_no_layer_of_the_other(
    folder: Path, tmp_path: Path
) -> None:
    Layout(folder).pack(["a:1"], tmp_path / "archive.tar")
    packed = _unpacked(tmp_path / "archive.tar")
    assert {"shared", "only a", "config of a:1"} <= set(packed.values())
    assert "only b" not in packed.values()
    assert len(json.loads(packed["index.json"])["manifests"]) == 1
    assert json.loads(packed["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def test_an_archive_of_both_images_contains_the_shared_layer_once(
    folder: Path, tmp_path: Path
) -> None:
    Layout(folder).pack(["a:1", "b:2"], tmp_path / "archive.tar")
    packed = _unpacked(tmp_path / "archive.tar")
    assert list(packed.values()).count("shared") == 1
    assert {"only a", "only b"} <= set(packed.values())


def test_every_blob_is_stored_under_its_digest(folder: Path, tmp_path: Path) -> None:
    Layout(folder).pack(["a:1", "b:2"], tmp_path / "archive.tar")
    blobs = {
        name.rpartition("/")[2]: content
        for name, content in _unpacked(tmp_path / "archive.tar").items()
        if name.startswith("blobs/")
    }
    assert blobs
    assert all(hashlib.sha256(text.encode()).hexdigest() == name for name, text in blobs.items())


def test_keeping_one_image_removes_the_blobs_that_it_does_not_use(folder: Path) -> None:
    layout = Layout(folder)
    layout.keep(["b:2"])
    assert layout.references() == ["b:2"]
    assert "shared" in _contents(folder)
    assert not {"only a", "config of a:1", "interrupted"} & _contents(folder)


def test_a_missing_layout_is_empty(tmp_path: Path) -> None:
    assert Layout(tmp_path / "nothing").references() == []


def test_cleaning_up_a_missing_layout_does_not_create_it(tmp_path: Path) -> None:
    Layout(tmp_path / "layout").keep([])

    assert not (tmp_path / "layout").exists()
