"""A layer with the code makes an image of its own, and needs nothing else of its builder."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images.catalogue import Recipe, fingerprints
from prefect_platform_cli.images.layered import code_layer, has_code, reference_of, write_layered

_RECIPE = Recipe(
    "example", ".", ("Dockerfile", "prefect.yaml", "flows"), code=("prefect.yaml", "flows")
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with a flow, a module in a folder, and byte code."""
    for name, text in {
        "Dockerfile": "FROM scratch",
        "prefect.yaml": "deployments: []",
        "flows/etl.py": "print('etl')",
        "flows/lib/sql.py": "SELECT = 1",
        "flows/__pycache__/etl.pyc": "byte code",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def built(repository: Path) -> dict[str, Any]:
    """Return the configuration of an image that is built from the repository as it is now."""
    labels = {
        f"prefect-platform/{name.lower()}": value
        for name, value in fingerprints(_RECIPE, repository).items()
    }
    return {
        "config": {"WorkingDir": "/opt/prefect", "User": "1000:1000", "Labels": labels},
        "rootfs": {"diff_ids": ["sha256:lower"]},
        "history": [],
    }


def test_an_image_has_the_code_until_a_flow_or_a_deployment_is_edited(repository: Path) -> None:
    config = built(repository)
    assert has_code(config, _RECIPE, repository)

    (repository / "flows" / "lib" / "sql.py").write_text("SELECT = 2")

    assert not has_code(config, _RECIPE, repository)


def test_an_image_is_refused_when_more_than_its_code_has_changed(repository: Path) -> None:
    config = built(repository)
    (repository / "Dockerfile").write_text("FROM other")

    with pytest.raises(PlatformError, match="changed: Dockerfile") as refused:
        has_code(config, _RECIPE, repository)

    assert refused.value.next_step == "make deploy-cluster"


def test_an_image_of_another_origin_is_refused(repository: Path) -> None:
    config = built(repository)
    config["config"]["Labels"] = None

    with pytest.raises(PlatformError):
        has_code(config, _RECIPE, repository)


def test_a_layer_replaces_the_folders_of_the_code_and_has_no_byte_code(repository: Path) -> None:
    layer = code_layer(built(repository), _RECIPE, repository)

    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        modes = {entry.name: oct(entry.mode) for entry in files if entry.isfile()}
        flow = files.extractfile("opt/prefect/flows/etl.py")
        assert flow is not None
        assert flow.read() == b"print('etl')"
    assert modes.keys() == {
        "opt/prefect/prefect.yaml",
        "opt/prefect/flows/.wh..wh..opq",
        "opt/prefect/flows/etl.py",
        "opt/prefect/flows/lib/.wh..wh..opq",
        "opt/prefect/flows/lib/sql.py",
    }
    assert set(modes.values()) == {"0o644"}


def test_the_reference_changes_with_the_code_and_with_nothing_else(repository: Path) -> None:
    def reference() -> str:
        return reference_of("host/flows:1", code_layer(built(repository), _RECIPE, repository))

    before = reference()
    (repository / "flows" / "etl.py").touch()
    assert reference() == before

    (repository / "flows" / "etl.py").write_text("print('edited')")
    assert reference() != before
    assert reference().startswith("host/flows:1-")


def test_a_secret_in_the_code_is_refused_without_being_shown(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "correct-horse-battery"
    monkeypatch.setenv("WAREHOUSE_PASSWORD", secret)
    (repository / "flows" / "query.sql").write_text(f"-- {secret}")

    with pytest.raises(PlatformError, match=r"query\.sql contains") as refused:
        code_layer(built(repository), _RECIPE, repository)

    assert secret not in str(refused.value)


def test_the_archive_has_the_layer_and_descriptions_that_add_it_to_the_lower_ones(
    repository: Path, tmp_path: Path
) -> None:
    config = built(repository)
    lower = {"digest": "sha256:lower-compressed", "size": 1}
    manifest = {
        "mediaType": "of/manifests",
        "config": {"mediaType": "of/configs"},
        "layers": [lower],
    }
    layer = code_layer(config, _RECIPE, repository)

    write_layered(tmp_path / "image.tar", "host/flows:1-2", layer, manifest=manifest, config=config)

    with tarfile.open(tmp_path / "image.tar") as archive:
        content = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    (entry,) = json.loads(content.pop("index.json"))["manifests"]
    content.pop("oci-layout")
    blobs = {name.replace("blobs/sha256/", "sha256:"): blob for name, blob in content.items()}
    image = json.loads(blobs[entry["digest"]])
    described = json.loads(blobs[image["config"]["digest"]])
    assert entry["annotations"] == {"io.containerd.image.name": "host/flows:1-2"}
    assert image["layers"][0] == lower
    assert blobs[image["layers"][1]["digest"]] == layer
    assert described["rootfs"]["diff_ids"] == ["sha256:lower", image["layers"][1]["digest"]]
    assert described["config"]["User"] == "1000:1000"
    assert len(blobs) == 3
    assert all(f"sha256:{hashlib.sha256(blob).hexdigest()}" == name for name, blob in blobs.items())
