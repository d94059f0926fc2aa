"""Search all layers of an image for secrets, also in files that a later layer deletes."""

import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from prefect_platform_cli.host.secret_forms import kind_of_secret

_SHORTEST = 12  # shorter values occur by chance
_LARGEST_TEXT = 1_000_000
# GPG_KEY is that of a release of Python, which the images of Python publish.
_SECRET_NAME = re.compile("AUTH(?!OR)|CREDENTIAL|(?<!^GPG_)KEY|PASS|SECRET|TOKEN", re.IGNORECASE)
_PASSWORD = re.compile("://[^/@]*:([^/@]+)@")
# Installed packages, which are locked by their hash, and the system. The linter reads Python files.
_OF_OTHERS = re.compile(r"(lib|usr|var|opt/venv)/|.*\.py$")


def secrets_of(environment: Mapping[str, str]) -> dict[str, bytes]:
    """Return the values of variables that are secrets, and passwords in addresses, by variable."""
    found = {}
    for name, value in environment.items():
        address = _PASSWORD.search(value)
        secret = unquote(address[1]) if address else value if _SECRET_NAME.search(name) else ""
        # Not Path.exists, which raises for a text that is too long for a path.
        if len(secret) >= _SHORTEST and not os.path.exists(secret):  # noqa: PTH110
            found[name] = secret.encode()
    return found


def leaks(archive: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each secret in an image, which is saved in the format of `docker save`.

    The secrets are those of `environment`, in any file and in the configuration of the image, and
    in files of the project whatever has the form of a secret. No sentence has the value.
    """
    known = secrets_of(environment)
    with tarfile.open(archive) as image:
        (manifest,) = json.loads(_content(image, image.getmember("manifest.json")))
        configuration = _content(image, image.getmember(manifest["Config"]))
        yield from _known_in("its configuration", configuration, known)
        for layer in manifest["Layers"]:
            yield from layer_leaks(_opened(image, layer), known)


def layer_leaks(layer: IO[bytes], known: Mapping[str, bytes]) -> Iterator[str]:
    """Yield a sentence for each secret in a layer; `known` are the result of `secrets_of`."""
    with tarfile.open(fileobj=layer) as files:
        for entry in files:
            if entry.isfile():
                name = entry.name.removeprefix("./")
                yield from _in_file(name, _content(files, entry), known)


def _in_file(name: str, content: bytes, known: Mapping[str, bytes]) -> Iterator[str]:
    yield from _known_in(f"/{name}", content, known)
    if _OF_OTHERS.match(name) or len(content) > _LARGEST_TEXT:
        return
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        if kind := kind_of_secret(line):
            yield f"/{name}, line {number}, contains a secret ({kind})"


def _known_in(where: str, content: bytes, known: Mapping[str, bytes]) -> Iterator[str]:
    for variable, value in known.items():
        if value in content:
            yield f"{where} contains the value of the variable {variable} of this machine"


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    return _opened(archive, entry).read()


def _opened(archive: tarfile.TarFile, entry: tarfile.TarInfo | str) -> IO[bytes]:
    file = archive.extractfile(entry)
    assert file is not None  # noqa: S101 - callers pass regular files
    return file
