"""Image archives keep their files intact, and both containerd and Docker can load them."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_platform_cli.cluster.node_image.image_archive import (
    ImageConfig,
    write_archive,
    write_layer,
)

_REFERENCE = "prefect-platform.local/some/image:v1"
_NAMES = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,120}){0,2}\.txt", fullmatch=True)
_FILES = st.dictionaries(_NAMES, st.tuples(st.binary(max_size=2000), st.booleans()), min_size=1)


def _layer(folder: Path, name: str, content: bytes) -> Path:
    (folder / "content").write_bytes(content)
    write_layer(folder / name, {"etc/content": folder / "content"})
    return folder / name


def _blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {
            member.name: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }


def _json_blob(blobs: dict[str, bytes], digest: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(blobs[f"blobs/sha256/{digest.removeprefix('sha256:')}"])
    return content


@given(files=_FILES)
@settings(
    max_examples=50,
    deadline=None,  # it writes files, which takes long on a busy disk
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_layer_keeps_every_file_with_its_executable_bit(
    tmp_path: Path, files: dict[str, tuple[bytes, bool]]
) -> None:
    sources: dict[str, Path | str] = {}
    for number, (name, (content, executable)) in enumerate(files.items()):
        source = tmp_path / str(number)
        source.write_bytes(content)
        source.chmod(0o755 if executable else 0o644)
        sources[name] = source
    write_layer(tmp_path / "layer.tar", {**sources, "link": "some/target"})

    with tarfile.open(tmp_path / "layer.tar") as layer:
        members = {member.name: member for member in layer.getmembers()}
        assert members.pop("link").linkname == "some/target"
        read = {
            name: (layer.extractfile(member).read(), member.mode == 0o755)  # type: ignore[union-attr]
            for name, member in members.items()
        }
    assert read == files


@pytest.mark.parametrize("compressed", [False, True])
def test_every_blob_is_stored_under_its_digest(tmp_path: Path, *, compressed: bool) -> None:
    layers = [_layer(tmp_path, f"{name}.tar", name.encode()) for name in ("lower", "upper")]
    write_archive(tmp_path / "image.tar", _REFERENCE, layers, ImageConfig(), compressed=compressed)
    blobs = {
        name.removeprefix("blobs/sha256/"): content
        for name, content in _blobs(tmp_path / "image.tar").items()
        if name.startswith("blobs/")
    }
    assert len(blobs) == 4
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in blobs.items())


@pytest.mark.parametrize("compressed", [False, True])
def test_docker_and_containerd_find_the_same_config_and_layers(
    tmp_path: Path, *, compressed: bool
) -> None:
    layers = [_layer(tmp_path, f"{name}.tar", name.encode()) for name in ("lower", "upper")]
    config = ImageConfig(entrypoint=["/bin/program"], stop_signal="SIGRTMIN+3")
    write_archive(tmp_path / "image.tar", _REFERENCE, layers, config, compressed=compressed)
    blobs = _blobs(tmp_path / "image.tar")

    [docker] = json.loads(blobs["manifest.json"])
    [described] = json.loads(blobs["index.json"])["manifests"]
    manifest = _json_blob(blobs, described["digest"])
    assert docker["RepoTags"] == [described["annotations"]["io.containerd.image.name"]]
    assert docker["RepoTags"] == [_REFERENCE]
    digests = [layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
    assert docker["Layers"] == [f"blobs/sha256/{digest}" for digest in digests]
    assert docker["Config"].endswith(manifest["config"]["digest"].removeprefix("sha256:"))
    sizes = [layer["size"] for layer in manifest["layers"]]
    assert sizes == [len(blobs[name]) for name in docker["Layers"]]

    image = _json_blob(blobs, manifest["config"]["digest"])
    assert image["config"]["Entrypoint"] == ["/bin/program"]
    assert image["config"]["StopSignal"] == "SIGRTMIN+3"
    # A diff ID is the digest of the uncompressed layer.
    expected = [f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}" for layer in layers]
    assert image["rootfs"]["diff_ids"] == expected


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd: apt-get install zstd")
def test_a_compressed_layer_declares_its_format_and_unpacks_to_the_original(tmp_path: Path) -> None:
    layer = _layer(tmp_path, "layer.tar", b"compress me " * 1000)
    write_archive(tmp_path / "image.tar", _REFERENCE, [layer], ImageConfig(), compressed=True)
    blobs = _blobs(tmp_path / "image.tar")
    [described] = json.loads(blobs["index.json"])["manifests"]
    [stored] = _json_blob(blobs, described["digest"])["layers"]
    assert stored["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    name = f"blobs/sha256/{stored['digest'].removeprefix('sha256:')}"
    unpack = ["zstd", "--decompress", "--stdout"]
    unpacked = subprocess.run(unpack, input=blobs[name], capture_output=True, check=True).stdout
    assert unpacked == layer.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
        assert tar.getnames() == ["etc/content"]


def test_the_archive_does_not_depend_on_when_its_files_were_written(tmp_path: Path) -> None:
    archives = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        write_archive(
            folder / "image.tar", _REFERENCE, [_layer(folder, "l.tar", b"same")], ImageConfig()
        )
        archives.append((folder / "image.tar").read_bytes())
        for path in folder.iterdir():
            path.chmod(0o600)
    assert archives[0] == archives[1]


def test_a_layer_used_twice_is_stored_once(tmp_path: Path) -> None:
    layer = _layer(tmp_path, "layer.tar", b"twice")
    write_archive(tmp_path / "image.tar", _REFERENCE, [layer, layer], ImageConfig())
    with tarfile.open(tmp_path / "image.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    [docker] = json.loads(_blobs(tmp_path / "image.tar")["manifest.json"])
    assert len(docker["Layers"]) == 2
