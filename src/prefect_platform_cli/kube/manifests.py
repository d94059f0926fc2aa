"""Render a kustomization with the images that were built, and with a hash in the Jobs' names."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.process import run

_HASH_LENGTH = 10


def render(kubectl: Path, directory: Path, references: Mapping[str, str]) -> str:
    """Return the kustomization in `directory` as one JSON List.

    An image without a tag is replaced with its reference in `references`. A hash of its spec is
    added to the name of each Job. Kubernetes does not allow a Job to be changed, so a changed spec
    has to create a new Job. Raises PlatformError when an image has no reference.
    """
    printed = run(
        [kubectl, "kustomize", directory],
        failure=f"the manifests in {directory} cannot be rendered",
        next_step=f"kubectl kustomize {directory}",
    )
    objects = list(yaml.load_all(printed, Loader=yaml.CSafeLoader))  # kubectl, too, reads YAML 1.1
    for item in objects:
        _set_images(item, references, directory)
        if item["kind"] == "Job":
            content = json.dumps(item["spec"], sort_keys=True).encode()
            digest = hashlib.sha256(content).hexdigest()[:_HASH_LENGTH]
            item["metadata"]["name"] += f"-{digest}"
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2)


def _set_images(item: dict[str, Any], references: Mapping[str, str], directory: Path) -> None:
    for container in _containers(item):
        image = container["image"]
        if ":" in image.rpartition("/")[2]:
            continue
        if image not in references:
            built = ", ".join(sorted(references)) or "none"
            raise PlatformError(
                f"{item['kind']} {item['metadata']['name']} in {directory} uses the image {image}, "
                f"which was not built; the built images are {built}",
                next_step=f"add a tag to {image} in the manifest, or build the image",
            )
        container["image"] = references[image]


def _containers(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pod = item.get("spec", {}).get("template", {}).get("spec", {})
    yield from pod.get("initContainers", [])
    yield from pod.get("containers", [])
