"""A new version of a Secret restarts all pods that read it, and no others."""

import json
from importlib.metadata import entry_points

import pytest

from tests.support.rendering import STORIES, Object, Story, find, objects, pod_of

_WORKLOADS = ("Deployment", "StatefulSet")
# The Secrets that each story reads, by their keys in secretVersions.
_SECRETS = {
    "server": {"auth": "prefect-auth", "database": "prefect-database"},
    "server-ha": {
        "auth": "prefect-auth",
        "database": "prefect-database",
        "encryption": "prefect-encryption",
        "redis": "prefect-redis",
    },
    "server-cloudnative-pg": {"database": "prefect-database"},
    "server-external-url": {"database": "our-database"},
    "server-ha-external": {"database": "prefect-database", "redis": "our-redis"},
    "worker-auth-string": {"auth": "prefect-auth"},
}


def workloads(story: Story) -> dict[str, Object]:
    """Return the long-running workloads, by kind and name."""
    return {
        f"{item['kind']}/{item['metadata']['name']}": item
        for item in objects(story)
        if item["kind"] in _WORKLOADS
    }


@pytest.mark.parametrize(
    ("story", "key", "secret"),
    [(story, key, name) for story, names in _SECRETS.items() for key, name in names.items()],
)
def test_a_new_version_of_a_secret_restarts_exactly_its_readers(
    story: str, key: str, secret: str
) -> None:
    before = workloads(STORIES[story])
    after = workloads(STORIES[story].with_values({f"secretVersions.{key}": "2"}))
    readers = {name for name, item in before.items() if f'"name": "{secret}"' in json.dumps(item)}

    assert readers
    assert {name for name in before if before[name] != after[name]} == readers


def test_a_new_auth_string_restarts_nothing_that_has_tokens() -> None:
    story = STORIES["worker-pools"]
    assert workloads(story) == workloads(story.with_values({"secretVersions.auth": "2"}))


@pytest.mark.parametrize("story", ["server", "worker-auth-string"])
def test_without_secret_versions_a_pod_has_no_version_of_a_secret(story: str) -> None:
    for item in workloads(STORIES[story]).values():
        annotations = (pod_of(item) or {})["metadata"].get("annotations", {})
        assert [key for key in annotations if key.endswith("-version")] == []


def test_pod_annotations_and_secret_versions_are_combined() -> None:
    values = {"api.podAnnotations": {"example.org/team": "data"}, "secretVersions.auth": "2"}
    api = find(objects(STORIES["server"].with_values(values)), "Deployment", "api")

    assert api["spec"]["template"]["metadata"]["annotations"] == {
        "example.org/team": "data",
        "prefect-platform/auth-version": "2",
    }


@pytest.mark.parametrize(
    ("story", "component", "key", "runs"),
    [
        ("server-new-key", "migrations", "encryption", True),
        ("server-new-key", "migrations", "database", False),
        ("server", "migrations", "encryption", False),
        ("worker-configuration", "configuration", "configuration", True),
        ("worker-configuration", "configuration", "auth", False),
    ],
)
def test_a_job_runs_again_when_a_secret_that_it_processes_changes(
    story: str, component: str, key: str, *, runs: bool
) -> None:
    changed = STORIES[story].with_values({f"secretVersions.{key}": "2"})
    before, after = (find(objects(each), "Job", component) for each in (STORIES[story], changed))

    assert (before["metadata"]["name"] != after["metadata"]["name"]) == runs


def test_only_api_pods_get_the_previous_auth_string_and_the_plugin_that_accepts_it() -> None:
    previous = {"auth.previousSecret.name": "old", "auth.previousSecret.key": "auth-1"}
    rendered = objects(STORIES["server-ha"].with_values(previous))
    api = find(rendered, "Deployment", "api")
    (container,) = api["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each for each in container["env"]}
    plugins = set(variables["PREFECT_PLUGINS_ALLOW"]["value"].split(","))

    assert variables["PREVIOUS_API_AUTH_STRING"]["valueFrom"] == {
        "secretKeyRef": {"name": "old", "key": "auth-1"}
    }
    assert "previous-auth-string" in plugins
    assert plugins <= entry_points(group="prefect.plugins").names
    assert [item for item in rendered if '"name": "old"' in json.dumps(item)] == [api]
