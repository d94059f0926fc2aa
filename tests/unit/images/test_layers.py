"""A secret in any layer of an image is found, also if a later layer deletes it, and never shown."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from prefect_platform_cli.images.layers import leaks

_PASSWORD = "k9Zq0x1-of-the-index"
_MACHINE = {
    "PIP_INDEX_URL": f"https://builder:{_PASSWORD}@index.example/simple",
    "DEPLOY_TOKEN": "a-token-of-the-tests",
    "SSH_KEY": "short",
    "GOOGLE_APPLICATION_CREDENTIALS": "/etc/hostname",
    "HOME": "/home/of-a-builder",
    "GIT_AUTHOR_NAME": "A. Builder of ours",
    "GPG_KEY": "A035C8C19219BA821ECEA86B64E628F8D684696D",
    "LONG_SECRET": "x" * 5000,
}
_NO_SECRETS = ("SSH_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "HOME", "GIT_AUTHOR_NAME", "GPG_KEY")
# Built here, so that no file of this repository contains the form of a key.
_KEY = "-----BEGIN " + "PRIVATE KEY-----"


def image(
    folder: Path, *layers: Mapping[str, str], config: Mapping[str, Any] | None = None
) -> Path:
    """Write an image of these files in the format of `docker save`."""
    packed: dict[str, bytes] = {"config.json": json.dumps(config or {}).encode()}
    for number, files in enumerate(layers):
        packed[f"{number}.tar"] = _tar({name: text.encode() for name, text in files.items()})
    names = [f"{number}.tar" for number in range(len(layers))]
    packed["manifest.json"] = json.dumps([{"Config": "config.json", "Layers": names}]).encode()
    archive = folder / "image.tar"
    archive.write_bytes(_tar(packed))
    return archive


def _tar(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return written.getvalue()


@pytest.mark.parametrize(
    ("value", "variable"), [(_PASSWORD, "PIP_INDEX_URL"), ("a-token-of-the-tests", "DEPLOY_TOKEN")]
)
@pytest.mark.parametrize("name", ["opt/venv/lib/direct_url.json", "./etc/pip.conf", "opt/x.py"])
def test_a_secret_of_the_machine_is_found_in_a_layer_that_a_later_one_hides(
    tmp_path: Path, name: str, value: str, variable: str
) -> None:
    archive = image(tmp_path, {}, {name: f"x{value}x"}, {name: "", "opt/.wh.x": ""})

    path = f"/{name.removeprefix('./')}"
    assert list(leaks(archive, _MACHINE)) == [
        f"{path} contains the value of the variable {variable} of this machine"
    ]


def test_a_secret_of_the_machine_is_found_in_the_history(tmp_path: Path) -> None:
    archive = image(tmp_path, config={"history": [{"created_by": f"ARG URL={_PASSWORD}"}]})

    assert list(leaks(archive, _MACHINE)) == [
        "its configuration contains the value of the variable PIP_INDEX_URL of this machine"
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"a: 1\n{_KEY}\n", "Private Key"),
        ("\nURL=postgresql://flows:" + _PASSWORD + "@database/flows", "password in an address"),
    ],
)
def test_what_has_the_form_of_a_secret_is_found_in_the_files_of_the_project(
    tmp_path: Path, text: str, kind: str
) -> None:
    archive = image(tmp_path, {"opt/prefect/flows/.env": text}, {})

    assert list(leaks(archive, {})) == [
        f"/opt/prefect/flows/.env, line 2, contains a secret ({kind})"
    ]


def test_what_is_no_secret_of_this_project_is_not_reported(tmp_path: Path) -> None:
    archive = image(
        tmp_path,
        {
            "usr/share/doc/example": _KEY,
            "opt/venv/lib/python3.11/site-packages/examples.json": _KEY,
            "opt/prefect/flows/etl.py": f"# {_KEY}",  # the linter reads it
            "opt/prefect/flows/notes": " ".join(_MACHINE[each] for each in _NO_SECRETS),
        },
    )

    assert list(leaks(archive, _MACHINE)) == []
