"""Argo CD on the local cluster: restricted pods of our images, and traffic that is denied."""

import json
from functools import cache

import pytest
import yaml

from prefect_platform_cli.deploy.argocd.installation import render
from prefect_platform_cli.deploy.argocd.names import NAMESPACE
from tests.support.rendering import ARGOCD, Object

_IMAGES = {"argocd": "prefect-platform.local/argocd:a", "redis": "prefect-platform.local/redis:r"}
_COMPONENTS = ("argocd-application-controller", "argocd-redis", "argocd-repo-server", "repository")


@cache
def rendered() -> list[Object]:
    items: list[Object] = json.loads(render(_IMAGES))["items"]
    return items


def of(kind: str, name: str) -> Object:
    (found,) = (
        item for item in rendered() if (item["kind"], item["metadata"]["name"]) == (kind, name)
    )
    return found


def pod(name: str) -> Object:
    (workload,) = (
        item
        for item in rendered()
        if item["kind"] in {"Deployment", "StatefulSet"} and item["metadata"]["name"] == name
    )
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def containers(name: str) -> list[Object]:
    return [*pod(name).get("initContainers", []), *pod(name)["containers"]]


def test_these_components_are_installed_and_no_others() -> None:
    workloads = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
    found = sorted(item["metadata"]["name"] for item in rendered() if item["kind"] in workloads)
    assert found == sorted(_COMPONENTS)


@pytest.mark.parametrize("name", _COMPONENTS)
def test_containers_are_restricted_and_have_a_memory_limit(name: str) -> None:
    for container in containers(name):
        context = {**pod(name).get("securityContext", {}), **container["securityContext"]}
        assert context["runAsNonRoot"] is True
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod(name)["containers"]:
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", _COMPONENTS)
def test_containers_run_images_that_were_built_and_pull_none(name: str) -> None:
    for container in containers(name):
        assert container["image"] in _IMAGES.values()
        assert container["imagePullPolicy"] == "IfNotPresent"


def test_all_objects_are_in_the_namespace_which_refuses_other_pods() -> None:
    labels = of("Namespace", NAMESPACE)["metadata"]["labels"]
    namespaces = {
        item["metadata"].get("namespace")
        for item in rendered()
        if item["kind"] not in {"Namespace", "ClusterRole", "ClusterRoleBinding"}
    }
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespaces == {NAMESPACE}


def test_traffic_is_denied_by_default() -> None:
    policy = of("NetworkPolicy", "default-deny")["spec"]
    assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_the_repo_server_reads_the_repository() -> None:
    (rule,) = of("NetworkPolicy", "repository")["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer == {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "argocd-repo-server"}}
    }


def test_the_health_checks_are_those_for_every_argo_cd() -> None:
    checks = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())["data"]
    assert of("ConfigMap", "argocd-cm")["data"] == checks
