"""Every supported version of Kubernetes accepts all fields of all rendered objects."""

import copy
import json
import subprocess
from collections.abc import Mapping
from functools import cache
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


def validation_errors(
    kubernetes: str, items: Mapping[str, list[Object]], folder: Path
) -> list[str]:
    """Return an error for each of `items` that a version of Kubernetes rejects, with its story."""
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
    """Return whether `owner` is the Job of a flow run."""
    labels = owner["spec"].get("template", {}).get("metadata", {}).get("labels", {})
    return bool(owner["kind"] == "Job" and labels.get(LABEL) == "flow-run")


@cache
def jobs() -> dict[str, list[Object]]:
    """Return the Job of a flow run in each work pool, by story."""
    found: dict[str, list[Object]] = {}
    for name, story in STORIES.items():
        if story.chart == "prefect-worker":
            runs = [copy.deepcopy(each) for each in pod_owners(story) if is_run(each)]
            # The worker requires these two fields in the pod's spec, where Kubernetes drops them.
            for job, field in product(runs, ("parallelism", "completions")):
                assert job["spec"]["template"]["spec"].pop(field) == 1
            found[f"{name}-run"] = runs
    return found


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_version_accepts_every_rendered_object(kubernetes: str, tmp_path: Path) -> None:
    assert validation_errors(kubernetes, all_objects() | jobs(), tmp_path) == []


def test_module_sources_with_another_checksum_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = json.dumps({"Sum": "h1:another", "Dir": str(tmp_path)})
    (tmp_path / "go").write_text(f"#!/bin/sh\necho '{downloaded}'\n")
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setattr(toolchain, "go", lambda: tmp_path / "go")

    with pytest.raises(PlatformError, match=r"k8s.io/kubernetes v\S+ has the checksum h1:another"):
        write_kubernetes()


def test_the_kubernetes_version_of_kind_is_one_of_the_supported_versions() -> None:
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
    assert validation_errors(NEWEST, {"one": [accepted]}, tmp_path) == []


@pytest.mark.parametrize(
    ("refused", "message"),
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
def test_an_invalid_custom_resource_is_refused(
    refused: Object, message: str, tmp_path: Path
) -> None:
    (error,) = validation_errors(NEWEST, {"one": [refused]}, tmp_path)
    assert message in error


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["spec", "replica"], 1, "additional properties 'replica' not allowed"),
        (["spec", "replicas"], "1", "got string, want integer"),
        (["spec", "selector", "matchLabels", "a"], 1, "got number, want string"),
        (["spec", "template", "spec", "containers", 0, "name"], None, "got null, want string"),
        (["spec", "template", "spec", "containers"], [{}], "missing property 'name'"),
        (["apiVersion"], "apps/v2", "could not find schema for Deployment"),
    ],
)
def test_an_invalid_field_is_refused(
    path: list[str | int], value: object, message: str, tmp_path: Path
) -> None:
    deployment = copy.deepcopy(find(objects(STORIES["server"]), "Deployment", "api"))
    *parents, last = path
    target: Any = deployment
    for step in parents:
        target = target[step]
    target[last] = value
    (error,) = validation_errors(NEWEST, {"one": [deployment]}, tmp_path)
    assert message in error


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_a_field_is_refused_by_versions_that_do_not_have_it(
    kubernetes: str, tmp_path: Path
) -> None:
    since = {"hostnameOverride": "1.34", "schedulingGroup": "1.36"}
    pod = {
        "containers": [{"name": "a", "image": "a:1"}],
        "hostnameOverride": "b",
        "schedulingGroup": {"podGroupName": "c"},
    }
    item = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod}
    unknown = {field for field, first in since.items() if kubernetes < first}
    found = "".join(validation_errors(kubernetes, {"one": [item]}, tmp_path))
    assert {field for field in pod if f"'{field}'" in found} == unknown


def test_the_schemas_come_from_the_pinned_modules() -> None:
    written = {json.loads(path.read_text())["$comment"] for path in SCHEMAS.glob("*.json")}
    kubernetes = {f"{module.path} {module.version}" for module in KUBERNETES.values()}
    operators = {
        f"{module.path} {module.version}: {path}" for path, module in CUSTOM_RESOURCES.items()
    }
    assert written == kubernetes | operators
