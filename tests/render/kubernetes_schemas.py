"""JSON Schemas of Kubernetes and five operators, for kubeconform.

The schemas are generated from the API descriptions in each project's Go module. They are committed,
so that a check needs no network. For Kubernetes, they contain only the definitions that the
rendered kinds need. They reject unknown fields wherever a description lists the fields. They leave
out descriptions, defaults, and the CEL rules of custom resources.

`python -m tests.render.kubernetes_schemas` writes the schemas.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host import toolchain
from prefect_platform_cli.host.process import run
from tests.support.rendering import all_objects

Schema = dict[str, Any]


@dataclass(frozen=True)
class Module:
    """A released Go module, with the checksum of its sources in the format of go.sum."""

    path: str
    version: str
    checksum: str


def _kubernetes(version: str, checksum: str) -> Module:
    return Module("k8s.io/kubernetes", version, f"h1:{checksum}")


KUBERNETES = {
    "1.33": _kubernetes("v1.33.13", "bmH31xUdSzeA5vk0wZAK9MZp11mdLuzUSeKk0qN3hPQ="),
    "1.34": _kubernetes("v1.34.4", "Yy6R4QB8C9kJPp25GFqEvX5XQwY5qzKeqD0Xx6oAcmk="),
    "1.35": _kubernetes("v1.35.4", "o/8dBC/pHVpYoGV4OAIytAlNPZbdYVTXJHoYvXC4qzM="),
    "1.36": _kubernetes("v1.36.3", "qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o="),
}
_EXTERNAL_SECRETS = Module(
    "github.com/external-secrets/external-secrets",
    "v1.3.2",
    "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
)
_ARGOCD = Module(
    "github.com/argoproj/argo-cd/v3",
    "v3.2.11",
    "h1:3hkR11XCp/nlyM2cWr3qeUSGuZgi3JkFdMpzgL5qOR8=",
)
# The CustomResourceDefinitions of the kinds that charts and environments use, with their modules.
CUSTOM_RESOURCES = {
    "deploy/crds/cert-manager.io_certificates.yaml": Module(
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
    ),
    "config/crd/bases/postgresql.cnpg.io_clusters.yaml": Module(
        "github.com/cloudnative-pg/cloudnative-pg",
        "v1.28.0",
        "h1:vkv0a0ewDSfJOPJrsyUr4uczsxheReAWf/k171V0Dm0=",
    ),
    "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml": Module(
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
    ),
    "config/crds/bases/external-secrets.io_externalsecrets.yaml": _EXTERNAL_SECRETS,
    "config/crds/bases/external-secrets.io_secretstores.yaml": _EXTERNAL_SECRETS,
    "manifests/crds/application-crd.yaml": _ARGOCD,
    "manifests/crds/appproject-crd.yaml": _ARGOCD,
}
SCHEMAS = Path(__file__).parent / "schemas"

_CHECKS = {
    *("$ref", "enum", "format", "pattern", "required", "type", "uniqueItems"),
    *("maxItems", "maxLength", "maxProperties", "maximum"),
    *("minItems", "minLength", "minProperties", "minimum"),
}
_INT_OR_STRING: Schema = {"oneOf": [{"type": "integer"}, {"type": "string"}]}
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"  # declared as a string, but 1 is valid
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
# A CustomResourceDefinition does not describe metadata. These are the fields that charts set.
_METADATA: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": _TEXTS,
        "annotations": _TEXTS,
    },
    "additionalProperties": False,
}
FILE_NAME = "{{.ResourceKind}}{{.KindSuffix}}.json"  # _file_name as a template of kubeconform


def unfold(version: str, folder: Path) -> None:
    """Write the schemas of a Kubernetes version to `folder`, one file per kind, for kubeconform."""
    committed = json.loads(_committed(version).read_text())
    _write(folder / "definitions.json", {"definitions": committed["definitions"]})
    for file_name, name in committed["kinds"].items():
        _write(folder / file_name, {"$ref": f"definitions.json#/definitions/{name}"})


def write_kubernetes() -> None:
    """Write the schemas of the rendered kinds, and of pods, for each version of Kubernetes."""
    rendered = {
        (item["kind"], *_group_and_version(item["apiVersion"]))
        for items in all_objects().values()
        for item in items
    } | {("Pod", "", "v1")}
    for version, module in KUBERNETES.items():
        with _source(module) as source:
            description = json.loads((source / "api/openapi-spec/swagger.json").read_text())
        definitions: Mapping[str, Schema] = description["definitions"]
        kinds = {
            _file_name(*key): name
            for name, definition in definitions.items()
            for kind in definition.get("x-kubernetes-group-version-kind", [])
            if (key := (kind["kind"], kind["group"], kind["version"])) in rendered
        }
        closed = {name: _closed(definition) for name, definition in definitions.items()}
        closed[_QUANTITY] = {"oneOf": [{"type": "string"}, {"type": "number"}]}
        needed = {name: closed[name] for name in _reachable(closed, kinds.values())}
        comment = f"{module.path} {module.version}"
        _write(_committed(version), {"$comment": comment, "definitions": needed, "kinds": kinds})


def _committed(version: str) -> Path:
    return SCHEMAS / f"kubernetes-{version}.json"


def _reachable(definitions: Mapping[str, Schema], names: Iterable[str]) -> set[str]:
    """Return `names` and all that their definitions refer to, directly or indirectly."""
    found, left = set(), list(names)
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += re.findall(r"#/definitions/([^\"]+)\"", json.dumps(definitions[name]))
    return found


def _group_and_version(api_version: str) -> tuple[str, str]:
    group, _, version = api_version.rpartition("/")
    return group, version


def write_custom_resources() -> None:
    """Write the schemas of `CUSTOM_RESOURCES` in the form that kubeconform reads."""
    for path, module in CUSTOM_RESOURCES.items():
        with _source(module) as source:
            spec = yaml.safe_load((source / path).read_text())["spec"]
        for version in spec["versions"]:
            if version["storage"]:
                schema = _closed(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = _METADATA
                del schema["properties"]["status"]  # only the operator sets it
                schema["$comment"] = f"{module.path} {module.version}: {path}"
                file_name = _file_name(spec["names"]["kind"], spec["group"], version["name"])
                _write(SCHEMAS / file_name, schema)


def _closed(schema: Schema) -> Schema:
    """Return the checks of `schema`, and reject fields that it does not list."""
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    closed = {key: value for key, value in schema.items() if key in _CHECKS}
    # A branch adds to the schema around it and lists only some of its fields: leave it open.
    for key in ("allOf", "anyOf", "oneOf", "not"):
        if key in schema:
            closed[key] = schema[key]
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        closed["additionalProperties"] = _closed(schema["additionalProperties"])
    if "properties" in schema:
        closed["properties"] = {
            name: _closed(field) for name, field in schema["properties"].items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed.setdefault("additionalProperties", False)
    return closed


def _file_name(kind: str, group: str, version: str) -> str:
    """Return the name that kubeconform looks for: deployment-apps-v1.json, service-v1.json."""
    return "-".join(filter(None, [kind, group.partition(".")[0], version])).lower() + ".json"


def _write(path: Path, schema: Schema) -> None:
    path.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


@contextmanager
def _source(module: Module) -> Iterator[Path]:
    """Yield a folder with the sources of a module.

    Raises PlatformError if the module cannot be downloaded, or if its checksum is wrong.
    """
    # A temporary module cache, because only one file of the module is needed.
    with tempfile.TemporaryDirectory() as downloads:
        answer = run(
            [
                *(toolchain.go(), "mod", "download", "-modcacherw", "-json"),
                f"{module.path}@{module.version}",
            ],
            failure=f"{module.path} {module.version} cannot be downloaded",
            next_step="check the network and the disk, then run the same command again",
            cwd=Path(downloads),
            env={**os.environ, "GOMODCACHE": downloads, "GOTOOLCHAIN": "local", "GOWORK": "off"},
        )
        downloaded = json.loads(answer)
        if downloaded["Sum"] != module.checksum:
            raise PlatformError(
                f"{module.path} {module.version} has the checksum {downloaded['Sum']}, "
                f"not {module.checksum}",
                next_step="find out why a released module changed before you use it",
            )
        yield Path(downloaded["Dir"])


if __name__ == "__main__":
    write_kubernetes()
    write_custom_resources()
