"""An image with other code: one layer on an image that the nodes have already.

It needs no builder. Its archive has only what the nodes lack, which is the layer, the configuration
and the manifest; containerd finds the other layers in its own store.
"""

import copy
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.withheld import with_withheld
from prefect_platform_cli.images.catalogue import Recipe, files, fingerprints
from prefect_platform_cli.images.layers import layer_leaks, secrets_of
from prefect_platform_cli.images.layout import add_file, write_archive
from prefect_platform_cli.images.remote import REVISION

_CODE, _RUNTIME = "prefect-platform/code", "prefect-platform/runtime"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_OPAQUE = ".wh..wh..opq"  # hides the folder of lower layers, with byte code of the earlier code


def has_code(config: Mapping[str, Any], recipe: Recipe, repository: Path = REPOSITORY) -> bool:
    """Return whether an image, by its configuration, has the code that is in the repository.

    Raises PlatformError when its other inputs are not those of the repository.
    """
    labels = config["config"].get("Labels") or {}
    current = fingerprints(recipe, repository)
    if labels.get(_RUNTIME) != current["RUNTIME"]:
        others = ", ".join(given for given in recipe.inputs if given not in recipe.code)
        raise PlatformError(
            f"the image {recipe.name} of the cluster was not built from the files that are here "
            f"now, and a run can only bring {' and '.join(recipe.code)} with it; one of these has "
            f"changed: {others}",
            next_step="make deploy-cluster",
        )
    return bool(labels[_CODE] == current["CODE"])


def code_layer(config: Mapping[str, Any], recipe: Recipe, repository: Path = REPOSITORY) -> bytes:
    """Return a layer with the code in the repository, in the working directory of an image.

    The same code always gives the same layer. Raises PlatformError when there is a secret in it.
    """
    directory = PurePosixPath(config["config"]["WorkingDir"].lstrip("/"))
    code = files(recipe, recipe.code, repository)
    folders = {parent for name in code for parent in PurePosixPath(name).parents if parent.name}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as layer:
        for folder in sorted(folders):
            entry = tarfile.TarInfo(str(directory / folder))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            layer.addfile(entry)
            add_file(layer, str(directory / folder / _OPAQUE), b"")
        for name, path in code.items():
            add_file(layer, str(directory / name), path.read_bytes())
    packed.seek(0)
    if leaks := list(layer_leaks(packed, secrets_of(with_withheld()))):
        raise PlatformError(
            "the code would bring secrets into an image:\n  " + "\n  ".join(leaks),
            next_step="remove them, then run the command again",
        )
    return packed.getvalue()


def reference_of(image: str, layer: bytes) -> str:
    """Return the reference of `image` with `layer`."""
    return f"{image}-{hashlib.sha256(layer).hexdigest()[:12]}"


def write_layered(
    archive: Path,
    reference: str,
    layer: bytes,
    *,
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Write `reference` to a file: the image with this manifest and configuration, and `layer`."""
    image, described = copy.deepcopy(dict(manifest)), copy.deepcopy(dict(config))
    described["rootfs"]["diff_ids"].append(_digest(layer))
    described["history"].append({"created_by": "prefect-platform run"})
    for label in (_CODE, REVISION):  # those of the lower layers
        described["config"]["Labels"].pop(label, None)
    content = json.dumps(described).encode()
    image["config"] |= {"digest": _digest(content), "size": len(content)}
    image["layers"].append({"mediaType": _LAYER, "digest": _digest(layer), "size": len(layer)})
    top = json.dumps(image).encode()
    entry = {
        "mediaType": image["mediaType"],
        "digest": _digest(top),
        "size": len(top),
        "annotations": {"io.containerd.image.name": reference},
    }
    write_archive(archive, [entry], {_digest(blob): blob for blob in (layer, content, top)})


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
