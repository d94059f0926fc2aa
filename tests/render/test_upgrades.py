"""A second apply changes only what has to change."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.kube import manifests
from tests.support.rendering import IMAGES, LOCAL, STORIES, Object, Story, find, objects

SERVER = STORIES["server"]
FLOWS = "prefect-platform.local/flows"


def migrations(story: Story) -> Object:
    return find(objects(story), "Job", "migrations")


@pytest.mark.parametrize(
    "values",
    [
        {"image.tag": "aaaaaaaaaaaa"},
        {"database.name": "other"},
        {"database.mode": "external", "database.external.host": "db.example.org"},
        {"migrations.activeDeadlineSeconds": 60},
        {"migrations.revision": "9e9dadc36797"},
        {"encryption.previousSecret.name": "old"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_changed_migration_job_has_a_new_name(values: dict[str, object]) -> None:
    before, after = migrations(SERVER), migrations(SERVER.with_values(values))
    assert before["spec"] != after["spec"]
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_other_changes_do_not_affect_a_finished_migration_job() -> None:
    changed = SERVER.with_values({"logLevel": "DEBUG", "ui.enabled": False})
    assert migrations(SERVER) == migrations(changed)


def test_the_migration_job_is_not_a_hook() -> None:
    # Helm would run a post-install hook only after the API is ready, which waits for the hook.
    for item in objects(SERVER):
        assert "helm.sh/hook" not in item["metadata"].get("annotations", {})


def test_the_api_waits_for_the_database_of_the_migration_job() -> None:
    for name in ("server", "server-external-host", "server-external-url"):
        rendered = objects(STORIES[name])
        pod = find(rendered, "Deployment", "api")["spec"]["template"]["spec"]
        job = find(rendered, "Job", "migrations")["spec"]["template"]["spec"]["containers"][0]

        def database(container: Object) -> list[Object]:
            return [
                variable
                for variable in container["env"]
                if variable["name"].startswith("PREFECT_SERVER_DATABASE_")
                and not re.search("MIGRATE_ON_START|SQLALCHEMY", variable["name"])
            ]

        waiting, api = pod["initContainers"][0], pod["containers"][0]
        assert waiting["command"][-1] == "await-migrations"
        assert waiting["image"] == api["image"] == job["image"]
        assert database(waiting) == database(api) == database(job) != []


@pytest.mark.parametrize("story", ["server", "server-ha", "server-ha-scaled"])
def test_no_server_runs_during_a_downgrade_of_the_database(story: str) -> None:
    values = {"migrations.revision": "9e9dadc36797", "migrations.mayLose": ["held", "bucket"]}
    rendered = objects(STORIES[story].with_values(values))
    job = find(rendered, "Job", "migrations")["spec"]["template"]["spec"]["containers"][0]
    deployments = [item for item in rendered if item["kind"] == "Deployment"]

    assert job["command"][-2:] == ["downgrade", "9e9dadc36797"]
    assert job["args"][1:] == ["--may-lose=held", "--may-lose=bucket"]
    assert {item["spec"]["replicas"] for item in deployments} == {0}
    assert not [item for item in rendered if item["kind"] == "HorizontalPodAutoscaler"]


def test_only_the_migration_job_gets_the_previous_encryption_key() -> None:
    values = {"encryption.previousSecret.name": "old", "encryption.previousSecret.key": "key-1"}
    before, after = objects(SERVER), objects(SERVER.with_values(values))
    job = find(after, "Job", "migrations")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    secrets = {
        variable["name"]: tuple(variable["valueFrom"]["secretKeyRef"].values())
        for variable in container["env"]
        if "ENCRYPTION" in variable["name"]
    }

    assert container["command"][-1] == "prefect_platform.server.reencryption"
    assert secrets == {
        "PREFECT_SERVER_ENCRYPTION_KEY": ("prefect-encryption", "key"),
        "PREVIOUS_ENCRYPTION_KEY": ("old", "key-1"),
    }
    assert [item for item in after if item != job] == [
        item for item in before if item != find(before, "Job", "migrations")
    ]


def test_a_migration_job_without_a_previous_key_or_for_a_downgrade_has_no_key() -> None:
    downgrade = {"migrations.revision": "9e9dadc36797", "encryption.previousSecret.name": "old"}
    for story in (SERVER, SERVER.with_values(downgrade)):
        assert "ENCRYPTION" not in json.dumps(migrations(story))


def test_in_mode_single_two_servers_never_run_at_the_same_time() -> None:
    assert find(objects(SERVER), "Deployment", "api")["spec"]["strategy"] == {"type": "Recreate"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a copy of the local data services' folder."""
    return Path(shutil.copytree(LOCAL / "data", tmp_path / "data"))


def publish_job(data: Path, images: Mapping[str, str]) -> tuple[Object, list[Object]]:
    items = json.loads(manifests.render(tool("kubectl"), data, images))["items"]
    return find(items, "Job", "publish-flights"), items


def test_data_manifests_render_the_same_twice(data: Path) -> None:
    assert publish_job(data, IMAGES) == publish_job(data, IMAGES)


def test_a_changed_image_creates_a_new_publish_job(data: Path) -> None:
    other = {**IMAGES, FLOWS: "registry.example.org/flows@sha256:0123"}
    before, after = publish_job(data, IMAGES)[0], publish_job(data, other)[0]
    assert before["metadata"]["name"] != after["metadata"]["name"]
    (container,) = after["spec"]["template"]["spec"]["containers"]
    assert container["image"] == other[FLOWS]


def test_the_error_names_an_image_that_was_not_built(data: Path) -> None:
    with pytest.raises(PlatformError, match=r"result-locks in .*, which was not built"):
        publish_job(data, {FLOWS: IMAGES[FLOWS]})
