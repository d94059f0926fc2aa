"""Where images come from: a registry for all of them, a tag or a digest, and a Secret to pull."""

import pytest
import yaml

from tests.render.job_pods import created_job
from tests.render.rendering import STORIES, Object, Story, containers, objects, pod_of

_DIGEST = f"sha256:{'d' * 64}"
_PREFIXES = {
    "server": ("image", "database.embedded.image"),
    "worker": ("image", "jobs.image"),
}


def pods(story: Story) -> list[Object]:
    """Return the spec of each pod that a story makes, a flow run's with those of a worker."""
    owners = objects(story)
    if story.chart == "prefect-worker":
        owners = [*owners, created_job(story)]
    return [pod["spec"] for owner in owners if (pod := pod_of(owner))]


def images(story: Story) -> set[str]:
    """Return every image that a pod of the story runs."""
    return {container["image"] for pod in pods(story) for container in containers(pod)}


@pytest.mark.parametrize("story", _PREFIXES)
def test_one_registry_serves_every_image(story: str) -> None:
    mirror = {"global.imageRegistry": "mirror.example.org:5000/prefect"}
    found = images(STORIES[story].with_values(mirror))

    assert len(found) == 2
    assert {image.rpartition("/")[0] for image in found} == {"mirror.example.org:5000/prefect"}


@pytest.mark.parametrize("story", _PREFIXES)
def test_a_digest_names_the_image_in_place_of_the_tag(story: str) -> None:
    digests = {f"{prefix}.digest": _DIGEST for prefix in _PREFIXES[story]}
    found = images(STORIES[story].with_values(digests))

    assert len(found) == 2
    assert all(image.endswith(f"@{_DIGEST}") for image in found)


@pytest.mark.parametrize("story", _PREFIXES)
def test_every_pod_pulls_with_the_named_secrets(story: str) -> None:
    secrets = [{"name": "registry-login"}]
    found = pods(STORIES[story].with_values({"global.imagePullSecrets": secrets}))

    assert len(found) >= 2
    assert all(pod["imagePullSecrets"] == secrets for pod in found), yaml.safe_dump(found)
