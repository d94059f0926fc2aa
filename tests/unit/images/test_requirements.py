"""The packages that pip installs into the images match the lock file, and have hashes."""

import re
from pathlib import Path

import pytest

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images import requirements

EXPORTED = requirements.exported()
PATHS = sorted(EXPORTED)


def _packages(text: str) -> list[str]:
    return re.findall(r"^([\w.-]+)(?:\[.*\])?==", text, re.MULTILINE)


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_committed_file_matches_the_lock_file(path: Path) -> None:
    assert (REPOSITORY / path).read_text() == EXPORTED[path], (
        "the file is out of date. Run: python -m prefect_platform_cli.images.requirements"
    )


@pytest.mark.parametrize("path", [path for path in PATHS if path.parent != Path()], ids=str)
def test_every_package_that_an_image_installs_has_a_hash(path: Path) -> None:
    text = EXPORTED[path]
    entries = re.findall(r"^\S.*==.*\n(?: +.*\n)*", text, re.MULTILINE)
    assert len(entries) == len(_packages(text)) > 0
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("layer", ["platform", "flows", "sources"])
def test_no_layer_repeats_a_package_of_the_shared_layer(layer: str) -> None:
    shared, own = (
        set(_packages((REPOSITORY / f"requirements/{name}.txt").read_text()))
        for name in ("base", layer)
    )
    assert own
    assert not shared & own


def test_prefect_is_in_the_shared_layer() -> None:
    assert "prefect" in _packages((REPOSITORY / "requirements/base.txt").read_text())
