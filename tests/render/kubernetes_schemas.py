"""What Kubernetes and two operators accept, as JSON Schemas for kubeconform.

They are made of each project's own description, out of its Go module: those of Kubernetes in the
cache, once; those of custom resources in the repository, because an operator's sources are large
and its kinds few. An unknown field is refused wherever the fields are listed. Descriptions,
defaults and the rules of custom resources in CEL are left out.

`python -m tests.render.kubernetes_schemas` writes the schemas of the custom resources.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from prefect_platform import toolchain
from prefect_platform.errors import PlatformError
from prefect_platform.paths import cache_directory
from prefect_platform.process import run

Schema = dict[str, Any]


@dataclass(frozen=True)
class Module:
    """A released Go module, and the checksum of its sources as go.sum holds it."""

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
# Where each module describes the kinds that the charts may render.
CUSTOM_RESOURCES = {
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
}
CUSTOM_RESOURCE_SCHEMAS = Path(__file__).parent / "custom_resources"

_CHECKS = {
    *("$ref", "enum", "format", "pattern", "required", "type", "uniqueItems"),
    *("maxItems", "maxLength", "maxProperties", "maximum"),
    *("minItems", "minLength", "minProperties", "minimum"),
}
_INT_OR_STRING: Schema = {"oneOf": [{"type": "integer"}, {"type": "string"}]}
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"  # declared a string; 1 is one, too
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
# A CustomResourceDefinition leaves metadata to Kubernetes; this is what charts write there.
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
FILE_NAME = "{{.ResourceKind}}{{.KindSuffix}}.json"  # of _file_name, in kubeconform's words


@cache
def schemas(version: str) -> Path:
    """Return the folder with the schemas of a Kubernetes version, made when the cache lacks it."""
    module = KUBERNETES[version]
    digest = hashlib.sha256(f"{module.checksum} {Path(__file__).read_text()}".encode()).hexdigest()
    folder = cache_directory() / "schemas" / f"{module.version}-{digest[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with (
                tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as making,
                _source(module) as source,
            ):
                target = Path(making) / "target"
                target.mkdir()
                description = json.loads((source / "api/openapi-spec/swagger.json").read_text())
                _write_kubernetes(description["definitions"], target)
                target.rename(folder)
    return folder


def _write_kubernetes(definitions: Mapping[str, Schema], folder: Path) -> None:
    """Write each kind's schema into `folder`, with the definitions that it is made of."""
    closed = {name: _closed(definition) for name, definition in definitions.items()}
    closed[_QUANTITY] = {"oneOf": [{"type": "string"}, {"type": "number"}]}
    _write(folder / "definitions.json", {"definitions": closed})
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            file_name = _file_name(kind["kind"], kind["group"], kind["version"])
            _write(folder / file_name, {"$ref": f"definitions.json#/definitions/{name}"})


def write_custom_resources(folder: Path) -> None:
    """Write the schemas of `CUSTOM_RESOURCES` into `folder`."""
    for path, module in CUSTOM_RESOURCES.items():
        with _source(module) as source:
            spec = yaml.safe_load((source / path).read_text())["spec"]
        for version in spec["versions"]:
            if version["storage"]:
                schema = _closed(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = _METADATA
                del schema["properties"]["status"]  # for the operator to write
                schema["$comment"] = f"{module.path} {module.version}: {path}"
                file_name = _file_name(spec["names"]["kind"], spec["group"], version["name"])
                _write(folder / file_name, schema)


def _closed(schema: Schema) -> Schema:
    """Return what `schema` checks, refusing each field that it does not name."""
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    closed = {key: value for key, value in schema.items() if key in _CHECKS}
    # Branches complete the schema around them, so they name some of its fields only.
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
    """Yield the folder with the sources of a module while the block runs.

    Raises PlatformError when it cannot be had, or is not what the checksum says.
    """
    # A module cache of its own: one file of the module is needed, and not for long.
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
                next_step="find out why a released module changed before it is used",
            )
        yield Path(downloaded["Dir"])


if __name__ == "__main__":
    write_custom_resources(CUSTOM_RESOURCE_SCHEMAS)
