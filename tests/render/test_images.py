"""Where images come from: a registry for all of them, a tag or a digest, and a Secret to pull."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.render.rendering import STORIES, Object, containers, objects

_DIGEST = f"sha256:{'d' * 64}"
_PREFIXES = {
    "server": ("image", "database.embedded.image"),
    "worker": ("image", "jobs.image"),
}


def pods(rendered: list[Object]) -> Iterator[Object]:
    """Yield the spec of each pod that the objects make, job pods of the base job template too."""
    for item in rendered:
        if "template" in item.get("spec", {}):
            yield item["spec"]["template"]["spec"]
        for content in item.get("data", {}).values() if item["kind"] == "ConfigMap" else ():
            template = json.loads(content)
            manifest = template["job_configuration"]["job_manifest"]
            pod = manifest["spec"]["template"]["spec"]
            pod["containers"][0]["image"] = template["variables"]["properties"]["image"]["default"]
            yield pod


def images(rendered: list[Object]) -> set[str]:
    """Return every image that a pod of the objects runs."""
    return {container["image"] for pod in pods(rendered) for container in containers(pod)}


@pytest.mark.parametrize("story", _PREFIXES)
def test_one_registry_serves_every_image(story: str) -> None:
    mirror = {"global.imageRegistry": "mirror.example.org:5000/prefect"}
    found = images(objects(STORIES[story].with_values(mirror)))

    assert len(found) == 2
    assert {image.rpartition("/")[0] for image in found} == {"mirror.example.org:5000/prefect"}


@pytest.mark.parametrize("story", _PREFIXES)
def test_a_digest_names_the_image_in_place_of_the_tag(story: str) -> None:
    digests = {f"{prefix}.digest": _DIGEST for prefix in _PREFIXES[story]}
    found = images(objects(STORIES[story].with_values(digests)))

    assert len(found) == 2
    assert all(image.endswith(f"@{_DIGEST}") for image in found)


@pytest.mark.parametrize("story", _PREFIXES)
def test_every_pod_pulls_with_the_named_secrets(story: str) -> None:
    secrets = [{"name": "registry-login"}]
    found = list(pods(objects(STORIES[story].with_values({"global.imagePullSecrets": secrets}))))

    assert len(found) >= 2
    assert all(pod["imagePullSecrets"] == secrets for pod in found), yaml.safe_dump(found)
