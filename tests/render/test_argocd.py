"""Argo CD deploys what Helm would, in order, and may deploy nothing else."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.toolchain import tool
from tests.support.rendering import (
    ARGOCD,
    ENVIRONMENTS,
    HELM_CHARTS,
    STORIES,
    Object,
    Story,
    all_objects,
    argocd,
    arguments,
    external_secrets,
    find,
    namespaces,
    objects,
    template,
)

NAMES = ["staging", "production"]
CLUSTER_KINDS = {
    *("Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
}
_NO_PRUNE = "Prune=false"

each_environment = pytest.mark.parametrize("environment", NAMES)


def is_hook(item: Object) -> bool:
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


def group_kind(item: Object) -> tuple[str, str]:
    group, _, _ = item["apiVersion"].rpartition("/")
    return group, item["kind"]


def deployed(environment: str) -> list[Object]:
    """Return all objects of an environment that its Applications deploy."""
    found = [
        *namespaces(environment),
        *external_secrets(environment),
        *objects(STORIES[f"server-{environment}"]),
        *objects(STORIES[f"worker-{environment}"]),
    ]
    return [item for item in found if not is_hook(item)]


def spec(environment: str, kind: str, name: str = "") -> Object:
    """Return the spec of the project or Application with a name after that of the environment."""
    full = "-".join(filter(None, ["prefect-platform", environment, name]))
    (found,) = (
        item
        for item in argocd(environment)
        if (item["kind"], item["metadata"]["name"]) == (kind, full)
    )
    specification: Object = found["spec"]
    return specification


def applications(environment: str) -> dict[str, Object]:
    """Return the Applications that the root Application creates, by the end of their names."""
    return {
        item["metadata"]["name"].rpartition("-")[2]: item
        for item in argocd(environment)
        if item["kind"] == "Application" and item["metadata"]["name"].count("-") > 2
    }


def charts(environment: str) -> Iterator[tuple[str, Object]]:
    """Yield the name of each chart's component, and the source of its Application."""
    for name, item in applications(environment).items():
        if "helm" in item["spec"]["source"]:
            yield name, item["spec"]["source"]


def file(path: str) -> Path:
    """Return a file that a source names from the root of the repository."""
    assert path.startswith("/")
    return REPOSITORY / path.removeprefix("/")


def test_the_project_allows_exactly_the_kinds_that_the_repository_can_render() -> None:
    kinds = {
        group_kind(item)
        for story, items in all_objects().items()
        if not story.startswith(("argocd-", "data-"))
        for item in items
        if not is_hook(item)
    }
    project = spec("production", "AppProject")
    cluster = {(each["group"], each["kind"]) for each in project["clusterResourceWhitelist"]}
    namespaced = {(each["group"], each["kind"]) for each in project["namespaceResourceWhitelist"]}

    assert cluster == {each for each in kinds if each[1] in CLUSTER_KINDS}
    assert namespaced == kinds - cluster


@each_environment
def test_the_project_allows_exactly_the_namespaces_of_the_environment(environment: str) -> None:
    used = {
        item["metadata"]["namespace"]
        for item in deployed(environment)
        if "namespace" in item["metadata"]
    }
    allowed = [each["namespace"] for each in spec(environment, "AppProject")["destinations"]]

    assert set(allowed) == used
    assert len(allowed) == len(used)


@each_environment
def test_everything_comes_from_the_one_repository(environment: str) -> None:
    items = argocd(environment)
    urls = re.findall(r"https://(?!kubernetes)[^'\"\s]+", yaml.safe_dump(items))

    assert set(urls) == {"https://example.org/a.git"}
    for item in items:
        if item["kind"] == "AppProject":
            assert item["spec"]["sourceRepos"] == ["https://example.org/a.git"]
        else:
            assert item["spec"]["source"]["repoURL"] == "https://example.org/a.git"


@pytest.mark.parametrize(
    "url", ["https://example.org/a.git", "git@example.org:a/b.git", "file:///srv/a.git"]
)
def test_the_repository_is_named_by_https_ssh_or_a_path(url: str) -> None:
    files = (ENVIRONMENTS / "staging" / "argocd.yaml",)
    root = objects(Story(str(ARGOCD / "root"), "argocd", files, {"repository.url": url}))
    (application,) = (item for item in root if item["kind"] == "Application")

    assert application["spec"]["source"]["repoURL"] == url


def test_a_missing_repository_is_refused() -> None:
    files = (ENVIRONMENTS / "staging" / "argocd.yaml",)
    rendered = template(Story(str(ARGOCD / "root"), "argocd", files))

    assert rendered.returncode != 0
    assert "/repository/url" in rendered.stderr


@each_environment
def test_the_root_application_may_create_applications_only(environment: str) -> None:
    root = spec(environment, "AppProject", "root")

    assert spec(environment, "Application")["project"].endswith("-root")
    assert root["namespaceResourceWhitelist"] == [{"group": "argoproj.io", "kind": "Application"}]
    assert root["clusterResourceWhitelist"] == []
    for item in applications(environment).values():
        assert item["spec"]["project"] == f"prefect-platform-{environment}"


@each_environment
def test_waves_create_namespaces_then_secrets_then_the_server_then_the_worker(
    environment: str,
) -> None:
    waves = {
        name: int(item["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])
        for name, item in applications(environment).items()
    }

    assert waves == {"namespaces": 0, "secrets": 1, "server": 2, "worker": 3}


def test_an_environment_without_external_secrets_has_no_application_for_them() -> None:
    values = spec("staging", "Application")["source"]["helm"]["valuesObject"]
    found = objects(
        Story(str(ARGOCD / "applications"), "argocd", values={**values, "secrets": False})
    )

    assert [item["metadata"]["name"].rpartition("-")[2] for item in found] == [
        *("namespaces", "server", "worker")
    ]


@each_environment
def test_an_application_renders_what_helm_installs(environment: str) -> None:
    compared = set()
    for component, source in charts(environment):
        story = STORIES[f"{component}-{environment}"]
        helm = source["helm"]
        assert REPOSITORY / source["path"] == HELM_CHARTS / story.chart
        assert helm["releaseName"] == story.chart
        *files, images = (file(path) for path in helm["valueFiles"])
        assert tuple(files) == story.files
        assert images == ENVIRONMENTS / environment / "images.yaml"
        assert all(path.is_file() for path in (*files, images))
        assert "ignoreMissingValueFiles" not in helm, "a renamed file would mean the defaults"
        contents = {
            each["name"]: file(each["path"]).read_text() for each in helm.get("fileParameters", [])
        }
        # The other values of a story are the images.
        wanted = {key: value for key, value in story.values.items() if "image" not in key}
        assert contents == wanted
        compared.add(component)
    assert compared == {"server", "worker"}


@each_environment
def test_the_other_sources_exist(environment: str) -> None:
    for name, item in applications(environment).items():
        source = item["spec"]["source"]
        folder = REPOSITORY / source["path"]
        if name == "namespaces":
            assert (folder / source["directory"]["include"]).is_file()
        elif name == "secrets":
            assert (folder / "kustomization.yaml").is_file()
    assert (REPOSITORY / spec(environment, "Application")["source"]["path"]).samefile(
        ARGOCD / "applications"
    )


@each_environment
def test_every_application_heals_itself_and_retries_with_the_newest_commit(
    environment: str,
) -> None:
    items = [item for item in argocd(environment) if item["kind"] == "Application"]
    for item in items:
        policy = item["spec"]["syncPolicy"]
        assert policy["automated"]["selfHeal"]
        assert policy["retry"]["refresh"]
        assert policy["retry"]["backoff"]["factor"] > 1


@each_environment
def test_deleting_an_application_deletes_nothing_else(environment: str) -> None:
    for item in argocd(environment):
        assert "finalizers" not in item["metadata"]


@each_environment
def test_nothing_that_holds_data_is_pruned(environment: str) -> None:
    for name, item in applications(environment).items():
        prunes = item["spec"]["syncPolicy"]["automated"]["prune"]
        assert prunes == (name in {"server", "worker"})


@pytest.mark.parametrize(
    ("story", "kind", "component"),
    [
        ("server-local", "StatefulSet", "database"),
        ("server-cloudnative-pg", "Cluster", "database"),
    ],
)
def test_a_chart_excludes_its_data_from_pruning(story: str, kind: str, component: str) -> None:
    annotations = find(objects(STORIES[story]), kind, component)["metadata"]["annotations"]

    assert annotations["argocd.argoproj.io/sync-options"] == _NO_PRUNE


@pytest.mark.parametrize("story", ["worker-staging", "worker-production"])
def test_the_worker_excludes_its_namespaces_from_pruning(story: str) -> None:
    found = [item for item in objects(STORIES[story]) if item["kind"] == "Namespace"]

    assert found
    for item in found:
        options = item["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
        assert options == _NO_PRUNE


@pytest.mark.parametrize("story", sorted(STORIES))
def test_the_only_hooks_are_tests_which_argo_cd_ignores(story: str) -> None:
    hooks = {
        item["metadata"]["annotations"]["helm.sh/hook"]
        for item in objects(STORIES[story])
        if is_hook(item)
    }

    assert hooks <= {"test"}


def test_no_template_asks_the_cluster() -> None:
    # Argo CD renders without a cluster, where `lookup` finds nothing.
    for path in [*HELM_CHARTS.rglob("*.yaml"), *HELM_CHARTS.rglob("*.tpl")]:
        assert not re.search(r"[{(]-?\s*lookup\s", path.read_text()), path


@each_environment
@pytest.mark.parametrize("component", ["server", "worker"])
def test_two_renderings_are_the_same(environment: str, component: str) -> None:
    story = STORIES[f"{component}-{environment}"]
    argv = [tool("helm"), "template", story.chart, *arguments(story)]
    again = subprocess.run(argv, capture_output=True, text=True, check=True)

    assert again.stdout == template(story).stdout


@each_environment
def test_no_difference_is_ignored(environment: str) -> None:
    for item in argocd(environment):
        assert "ignoreDifferences" not in item["spec"]
