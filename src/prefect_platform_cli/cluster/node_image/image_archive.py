"""Write a container image as one file, from layers that are plain tar files.

The file is both an OCI image layout and a `docker save` archive, so that containerd and every
Docker engine can load it. The same layers always give the same file.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefect_platform_cli.host.process import run

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class ImageConfig:
    """How containers of the image start."""

    entrypoint: Sequence[str] = ()
    environment: Sequence[str] = field(default=(SEARCH_PATH,))
    stop_signal: str = "SIGTERM"


def write_archive(
    path: Path,
    reference: str,
    layers: Sequence[Path],
    config: ImageConfig,
    *,
    compressed: bool = False,
) -> None:
    """Write `layers` (tar files, lowest first) as the image `reference` to `path`.

    Layers that are `compressed` are a third of the size. containerd can load them, but old Docker
    engines cannot.
    """
    stored = [_compress(layer) for layer in layers] if compressed else layers
    media_type = f"{_LAYER}+zstd" if compressed else _LAYER
    digests = [_sha256(layer) for layer in stored]
    image_config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(config.entrypoint),
                "Env": list(config.environment),
                "StopSignal": config.stop_signal,
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{_sha256(layer)}" for layer in layers],
            },
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, image_config),
            "layers": [
                {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}
                for size, digest in zip(_sizes(stored), digests, strict=True)
            ],
        }
    )
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [
                {
                    **_descriptor(_MANIFEST, manifest),
                    "annotations": {"io.containerd.image.name": reference},
                }
            ],
        }
    )
    docker = _json(
        [
            {
                "Config": _blob(_digest(image_config)),
                "RepoTags": [reference],
                "Layers": [_blob(digest) for digest in digests],
            }
        ]
    )
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", index)
        _add(archive, "manifest.json", docker)
        for content in (manifest, image_config):
            _add(archive, _blob(_digest(content)), content)
        for digest, layer in dict(zip(digests, stored, strict=True)).items():
            blob = tarfile.TarInfo(_blob(digest))
            blob.size = layer.stat().st_size
            with layer.open("rb") as stream:
                archive.addfile(blob, stream)


def write_layer(path: Path, files: Mapping[str, Path | str]) -> None:
    """Write a layer to `path` from file names, without a leading slash, and their content.

    A file at a `Path` is copied with its executable bit; a `str` becomes a symbolic link to that
    path. Owner and times are fixed, so that the same files always give the same layer.
    """
    with tarfile.open(path, "w") as layer:
        for name, source in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            if isinstance(source, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, source
                layer.addfile(entry)
                continue
            entry.size = source.stat().st_size
            entry.mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
            with source.open("rb") as content:
                layer.addfile(entry, content)


def _compress(layer: Path) -> Path:
    """Return the compressed copy of `layer` beside it, and create it if it is missing."""
    copy = layer.with_name(f"{layer.name}.zst")
    if not copy.exists():
        run(
            ["zstd", "--quiet", "-1", layer, "-o", copy],
            failure=f"the layer {layer} cannot be compressed",
            next_step="check that zstd is installed and that the disk is not full",
        )
    return copy


def _sizes(files: Sequence[Path]) -> list[int]:
    return [file.stat().st_size for file in files]


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {
        "mediaType": media_type,
        "digest": f"sha256:{_digest(content)}",
        "size": len(content),
    }


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
