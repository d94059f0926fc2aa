"""Every version of Kubernetes that we support accepts what we render, field by field."""

import copy
import json
import subprocess
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host import toolchain
from prefect_platform_cli.host.toolchain import tool, version
from tests.render.components import LABEL, pod_owners
from tests.render.kubernetes_schemas import (
    CUSTOM_RESOURCES,
    FILE_NAME,
    KUBERNETES,
    SCHEMAS,
    unfold,
    write_kubernetes,
)
from tests.support.rendering import STORIES, Object, all_objects, find, objects

NEWEST = max(KUBERNETES)


def complaints(kubernetes: str, items: Mapping[str, list[Object]], folder: Path) -> list[str]:
    """Return a sentence for each field of `items`, by story, that a version refuses."""
    schemas, folder = folder / "schemas", folder / "objects"
    for each in (schemas, folder):
        each.mkdir()
    unfold(kubernetes, schemas)
    for story, rendered in items.items():
        (folder / f"{story}.json").write_text(
            json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered})
        )
    checked = subprocess.run(
        [
            *(tool("kubeconform"), "-strict", "-output", "json", "-verbose", "-n", "1"),
            *("-schema-location", f"{schemas}/{FILE_NAME}"),
            *("-schema-location", f"{SCHEMAS}/{FILE_NAME}"),
            folder,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    results = json.loads(checked.stdout)["resources"]
    assert len(results) == sum(len(rendered) for rendered in items.values()), checked.stderr
    return [
        f"{Path(result['filename']).stem}: {result['kind']} {result['name']}: {result['msg']}"
        for result in results
        if result["status"] != "statusValid"
    ]


def is_run(owner: Object) -> bool:
    """Return whether it is what a worker makes of a flow run."""
    labels = owner["spec"].get("template", {}).get("metadata", {}).get("labels", {})
    return bool(owner["kind"] == "Job" and labels.get(LABEL) == "flow-run")


def jobs() -> dict[str, list[Object]]:
    """Return the Job of a run in each pool, by the story of its workers."""
    found: dict[str, list[Object]] = {}
    for name, story in STORIES.items():
        if story.chart == "prefect-worker":
            runs = [copy.deepcopy(each) for each in pod_owners(story) if is_run(each)]
            # The worker insists on these two in the wrong place; the server drops them.
            for job, field in product(runs, ("parallelism", "completions")):
                assert job["spec"]["template"]["spec"].pop(field) == 1
            found[f"{name}-run"] = runs
    return found


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_version_accepts_every_rendered_object(kubernetes: str, tmp_path: Path) -> None:
    assert complaints(kubernetes, all_objects() | jobs(), tmp_path) == []


def test_sources_that_are_not_the_pinned_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = json.dumps({"Sum": "h1:another", "Dir": str(tmp_path)})
    (tmp_path / "go").write_text(f"#!/bin/sh\necho '{downloaded}'\n")
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setattr(toolchain, "go", lambda: tmp_path / "go")

    with pytest.raises(PlatformError, match=r"k8s.io/kubernetes v\S+ has the checksum h1:another"):
        write_kubernetes()


def test_the_version_that_kind_runs_is_one_of_them() -> None:
    assert version("kubelet") in {module.version for module in KUBERNETES.values()}


def custom_resource(kind: str, api_version: str, spec: Object) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}


def cluster(**spec: object) -> Object:
    return custom_resource("Cluster", "postgresql.cnpg.io/v1", {"instances": 3, **spec})


def route(**spec: object) -> Object:
    return custom_resource("HTTPRoute", "gateway.networking.k8s.io/v1", spec)


def external_secret(**spec: object) -> Object:
    return custom_resource("ExternalSecret", "external-secrets.io/v1", spec)


def secret_store(**aws: object) -> Object:
    return custom_resource("SecretStore", "external-secrets.io/v1", {"provider": {"aws": aws}})


@pytest.mark.parametrize(
    "accepted",
    [
        cluster(storage={"size": "7Gi"}, resources={"limits": {"cpu": 1, "memory": "1Gi"}}),
        route(parentRefs=[{"name": "public"}], rules=[{"backendRefs": [{"name": "b", "port": 7}]}]),
        external_secret(data=[{"secretKey": "a", "remoteRef": {"key": "b", "property": "c"}}]),
        secret_store(service="SecretsManager", region="eu-central-1"),
    ],
    ids=lambda item: str(item["kind"]),
)
def test_a_valid_custom_resource_is_accepted(accepted: Object, tmp_path: Path) -> None:
    assert complaints(NEWEST, {"one": [accepted]}, tmp_path) == []


@pytest.mark.parametrize(
    ("refused", "sentence"),
    [
        (cluster(instance=3), "additional properties 'instance' not allowed"),
        (cluster(instances="3"), "got string, want integer"),
        (cluster(storage={"sizes": "7Gi"}), "additional properties 'sizes' not allowed"),
        (route(parentRefs=[{"names": "a"}]), "additional properties 'names' not allowed"),
        (route(rules=[{"backendRefs": [{"name": "b", "port": 0}]}]), "minimum: got 0, want 1"),
        (external_secret(refreshPolicy="Hourly"), "value must be one of"),
        (external_secret(data=[{"secretKey": "a"}]), "missing property 'remoteRef'"),
        (secret_store(service="SecretsManager"), "missing property 'region'"),
        (custom_resource("Route", "gateway.networking.k8s.io/v1", {}), "could not find schema"),
    ],
)
def test_a_wrong_custom_resource_is_refused(refused: Object, sentence: str, tmp_path: Path) -> None:
    (complaint,) = complaints(NEWEST, {"one": [refused]}, tmp_path)
    assert sentence in complaint


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (["spec", "replica"], 1, "additional properties 'replica' not allowed"),
        (["spec", "replicas"], "1", "got string, want integer"),
        (["spec", "selector", "matchLabels", "a"], 1, "got number, want string"),
        (["spec", "template", "spec", "containers", 0, "name"], None, "got null, want string"),
        (["spec", "template", "spec", "containers"], [{}], "missing property 'name'"),
        (["apiVersion"], "apps/v2", "could not find schema for Deployment"),
    ],
)
def test_a_wrong_field_is_refused(
    path: list[str | int], value: object, sentence: str, tmp_path: Path
) -> None:
    deployment = copy.deepcopy(find(objects(STORIES["server"]), "Deployment", "api"))
    *parents, last = path
    target: Any = deployment
    for step in parents:
        target = target[step]
    target[last] = value
    (complaint,) = complaints(NEWEST, {"one": [deployment]}, tmp_path)
    assert sentence in complaint


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_a_field_is_refused_by_the_versions_that_lack_it(kubernetes: str, tmp_path: Path) -> None:
    since = {"hostnameOverride": "1.34", "schedulingGroup": "1.36"}
    pod = {
        "containers": [{"name": "a", "image": "a:1"}],
        "hostnameOverride": "b",
        "schedulingGroup": {"podGroupName": "c"},
    }
    item = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod}
    unknown = {field for field, first in since.items() if kubernetes < first}
    found = "".join(complaints(kubernetes, {"one": [item]}, tmp_path))
    assert {field for field in pod if f"'{field}'" in found} == unknown


def test_the_schemas_are_those_of_the_pinned_modules() -> None:
    written = {json.loads(path.read_text())["$comment"] for path in SCHEMAS.glob("*.json")}
    kubernetes = {f"{module.path} {module.version}" for module in KUBERNETES.values()}
    operators = {
        f"{module.path} {module.version}: {path}" for path, module in CUSTOM_RESOURCES.items()
    }
    assert written == kubernetes | operators
