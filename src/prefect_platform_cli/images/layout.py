"""An OCI image layout, which is a folder in which images share layers, and archives of it."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_NAME = "org.opencontainers.image.ref.name"


class Layout:
    """The images in the folder `path`, which a builder writes and this class reads and packs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def references(self) -> list[str]:
        """Return the references of the complete images."""
        return [entry["annotations"][_NAME] for entry in self._entries()]

    def keep(self, references: Sequence[str]) -> None:
        """Remove all other images, and the layers that only they need."""
        if not (self.path / "index.json").exists():  # nothing was exported yet
            return
        kept = [entry for entry in self._entries() if entry["annotations"][_NAME] in references]
        temporary = self.path / "index.json.new"
        temporary.write_bytes(_index(kept))
        temporary.rename(self.path / "index.json")
        needed = {blob.name for blob in self._blobs(kept)}
        for blob in (self.path / "blobs" / "sha256").iterdir():
            if blob.name not in needed:
                blob.unlink()

    def pack(self, references: Sequence[str], archive: Path) -> None:
        """Write the images `references` to the file `archive`, with each layer once."""
        entries = [entry for entry in self._entries() if entry["annotations"][_NAME] in references]
        with tarfile.open(archive, "w") as packed:
            _add_index(packed, entries)
            for blob in sorted(set(self._blobs(entries))):
                packed.add(blob, arcname=str(blob.relative_to(self.path)))

    def _entries(self) -> list[dict[str, Any]]:
        index = self.path / "index.json"
        entries: list[dict[str, Any]] = (
            json.loads(index.read_bytes())["manifests"] if index.exists() else []
        )
        return entries

    def _blobs(self, entries: Iterable[dict[str, Any]]) -> Iterator[Path]:
        for entry in entries:
            yield self._blob(entry)
            manifest = json.loads(self._blob(entry).read_bytes())
            yield from (self._blob(part) for part in (manifest["config"], *manifest["layers"]))

    def _blob(self, descriptor: dict[str, Any]) -> Path:
        algorithm, _, digest = descriptor["digest"].partition(":")
        return self.path / "blobs" / str(algorithm) / str(digest)


def write_archive(
    path: Path, entries: Sequence[dict[str, Any]], blobs: Mapping[str, bytes]
) -> None:
    """Write `blobs`, which are named ALGORITHM:DIGEST, to the file `path`.

    `entries` are the descriptors of the images. Blobs may be missing that the reader has already.
    """
    with tarfile.open(path, "w") as packed:
        _add_index(packed, entries)
        for digest, content in blobs.items():
            add_file(packed, f"blobs/{digest.replace(':', '/')}", content)


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to an archive; the same content always gives the same bytes."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _add_index(archive: tarfile.TarFile, entries: Sequence[dict[str, Any]]) -> None:
    add_file(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    add_file(archive, "index.json", _index(entries))


def _index(entries: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": entries}, sort_keys=True).encode()
