"""The charts render without values, and select each image by digest, tag or default."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import tool
from prefect_platform_cli.images.environment import Images, write
from tests.render.job_pods import created_job
from tests.support.rendering import (
    HELM_CHARTS,
    STORIES,
    Story,
    containers,
    find,
    objects,
    pod_of,
)

SERVER = STORIES["server-defaults"]
WORKER = STORIES["worker-defaults"]
_DIGEST = f"sha256:{'d' * 64}"


@pytest.mark.parametrize("command", [("lint", "--strict"), ("template",)])
@pytest.mark.parametrize("chart", [SERVER.chart, WORKER.chart])
def test_helm_accepts_the_folder_of_a_chart_as_it_stands(
    chart: str, command: tuple[str, ...]
) -> None:
    ended = subprocess.run(
        [tool("helm"), *command, HELM_CHARTS / chart], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout


@pytest.mark.parametrize(
    ("values", "ending"),
    [
        ({}, ":{appVersion}"),
        ({"tag": "7"}, ":7"),
        ({"digest": _DIGEST}, f"@{_DIGEST}"),
        ({"tag": "7", "digest": _DIGEST}, f"@{_DIGEST}"),
    ],
    ids=["neither", "tag", "digest", "both"],
)
@pytest.mark.parametrize(
    ("story", "image"), [(SERVER, "image"), (WORKER, "image"), (WORKER, "jobs.image")]
)
def test_a_digest_takes_precedence_over_the_tag_and_the_default_is_the_app_version(
    story: Story, image: str, values: dict[str, str], ending: str
) -> None:
    chart = yaml.safe_load((HELM_CHARTS / story.chart / "Chart.yaml").read_text())
    selected = story.with_values({f"{image}.{key}": value for key, value in values.items()})
    created = [created_job(selected)] if image == "jobs.image" else objects(selected)
    pods = filter(None, map(pod_of, created))
    images = {item["image"] for pod in pods for item in containers(pod["spec"])}
    name = "flows" if image == "jobs.image" else "platform"
    ours = {found for found in images if f"/{name}" in found}
    assert ours == {f"prefect-platform.local/{name}{ending.format_map(chart)}"}


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_both_charts_take_every_image_from_the_images_of_an_environment(
    environment: str, tmp_path: Path
) -> None:
    names = ("flows", "platform", "postgres", "redis")
    pushed = Images("registry.example.org/ours", dict.fromkeys(names, _DIGEST))
    write(tmp_path / "images.yaml", pushed)
    images = set()
    for chart in ("server", "worker"):
        environments = STORIES[f"{chart}-{environment}"]
        files = (*environments.files, tmp_path / "images.yaml")
        story = Story(environments.chart, environments.namespace, files)
        created = [*objects(story), *([created_job(story)] if chart == "worker" else [])]
        pods = filter(None, map(pod_of, created))
        images |= {item["image"] for pod in pods for item in containers(pod["spec"])}
    used = names if environment == "staging" else ("flows", "platform")
    assert images == {f"registry.example.org/ours/{name}@{_DIGEST}" for name in used}


@pytest.mark.parametrize(
    ("component", "package"), [("database", r"postgresql-(\d+)="), ("redis", r":(\d+\.\d+)\.\*")]
)
def test_the_default_tag_of_a_service_is_the_version_that_is_built(
    component: str, package: str
) -> None:
    item = find(objects(SERVER.with_values({"mode": "ha"})), "StatefulSet", component)
    (container,) = item["spec"]["template"]["spec"]["containers"]
    name, _, tag = container["image"].rpartition("/")[2].partition(":")
    built = (REPOSITORY / "k8s" / "kind" / "images" / name / "Dockerfile").read_text()
    assert re.findall(package, built) == [tag]
