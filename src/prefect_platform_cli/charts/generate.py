"""Generate values.yaml, its schema and the README of each chart from the charts' models.

It also generates the schema of retention.yaml, which both charts read, and copies the library chart
into both. `python -m prefect_platform_cli.charts.generate` writes all of these files; a test fails
when one is stale.
"""

import json
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from prefect_platform.retention_file import RetentionFile
from prefect_platform.values import Values
from prefect_platform_cli.charts.kubernetes_types import KubernetesObject
from prefect_platform_cli.charts.prefect_server import PrefectServer
from prefect_platform_cli.charts.prefect_worker import PrefectWorker
from prefect_platform_cli.host.paths import REPOSITORY

CHARTS: dict[str, Values] = {
    "prefect-server": PrefectServer(),
    "prefect-worker": PrefectWorker(),
}
_LIBRARY = REPOSITORY / "helm" / "prefect-library"
_RETENTION_SCHEMA = REPOSITORY / "k8s" / "environments" / "retention.schema.json"
_ORIGIN = "Generated from the models in src/prefect_platform_cli/charts: edit those, not this file."
_WIDTH = 100


class _WithoutTitles(GenerateJsonSchema):
    """Leave out the title of each property, which would repeat its key."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002, ANN401
        return False


def files() -> dict[Path, str]:
    """Return the content of every generated file by its path."""
    charts = {
        REPOSITORY / "helm" / chart / name: write(chart)
        for chart in CHARTS
        for name, write in (
            ("values.yaml", values_yaml),
            ("values.schema.json", values_schema),
            ("README.md", reference),
        )
    }
    # Helm finds a dependency in the chart's own folder, so that nothing has to be downloaded.
    library = {
        vendored(chart) / path.relative_to(_LIBRARY): path.read_text()
        for chart in CHARTS
        for path in sorted(_LIBRARY.rglob("*.*"))
    }
    return {**charts, **library, _RETENTION_SCHEMA: _json_schema(RetentionFile)}


def values_yaml(chart: str) -> str:
    """Return the chart's defaults as YAML, with each key's description as a comment above it."""
    values = CHARTS[chart]
    header = "\n".join(_comment(f"{type(values).__doc__} {_ORIGIN}", ""))
    return "\n\n".join([header, *_keys(values)]) + "\n"


def values_schema(chart: str) -> str:
    """Return the JSON schema against which Helm validates the values of users."""
    # Helm adds a key with the library's name for its values, although the library has none.
    library = {_LIBRARY.name: {"description": "Set by Helm; it has no values.", "type": "object"}}
    return _json_schema(type(CHARTS[chart]), **library)


def _json_schema(model: type[Values], **more: dict[str, str]) -> str:
    schema = _tidy(model.model_json_schema(schema_generator=_WithoutTitles))
    schema["properties"] |= more
    document = {"$schema": GenerateJsonSchema.schema_dialect, **schema}
    return json.dumps(document, indent=2) + "\n"


def reference(chart: str) -> str:
    """Return the README of the chart: a table of all values, their defaults and descriptions."""
    metadata = yaml.safe_load((REPOSITORY / "helm" / chart / "Chart.yaml").read_text())
    rows = _rows(CHARTS[chart])
    return "\n".join(
        [
            f"# {chart}",
            "",
            metadata["description"],
            "",
            "## Values",
            "",
            "| key | default | meaning |",
            "|---|---|---|",
            *(f"| `{key}` | `{default}` | {meaning} |" for key, default, meaning in rows),
            "",
        ]
    )


def _keys(values: Values, indent: str = "") -> Iterator[str]:
    """Yield the lines of each key, including the keys below it."""
    for name, field in _fields(values):
        value = getattr(values, name)
        lines = _comment(str(field.description), indent)
        if _is_group(value):
            lines += [f"{indent}{field.alias}:", *_keys(value, f"{indent}  ")]
        else:
            dumped = yaml.safe_dump({field.alias: _plain(value)}, sort_keys=False)
            lines.append(textwrap.indent(dumped.rstrip(), indent))
        yield "\n".join(lines)


def _rows(values: Values, parents: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in _fields(values):
        value, key = getattr(values, name), f"{parents}{field.alias}"
        meaning = " ".join(str(field.description).split()).replace("|", "\\|")
        if _is_group(value):
            yield key, "...", meaning
            yield from _rows(value, f"{key}.")
        else:
            yield key, json.dumps(_plain(value)), meaning


def _fields(values: Values) -> list[tuple[str, FieldInfo]]:
    """Return the fields of a mapping: its own first, then those that it inherits or redefines."""
    bases = [base for base in type(values).__bases__ if issubclass(base, Values)]
    inherited = {name for base in bases for name in base.model_fields}
    return sorted(type(values).model_fields.items(), key=lambda field: field[0] in inherited)


def _is_group(value: object) -> bool:
    return isinstance(value, Values) and not isinstance(value, KubernetesObject)


def _plain(value: object) -> object:
    match value:
        case Values():
            return value.model_dump(by_alias=True, exclude_none=True)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(
        " ".join(text.split()),
        _WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _tidy(schema: Any) -> Any:  # noqa: ANN401
    """Return the schema with each description on one line, and without defaults of null."""
    match schema:
        case dict():
            return {key: _tidy(item) for key, item in schema.items() if item is not None}
        case list():
            return [_tidy(item) for item in schema]
        case str():
            return " ".join(schema.split()) if "\n" in schema else schema
        case _:
            return schema


def vendored(chart: str) -> Path:
    """Return the folder of a chart that holds its copy of the library chart."""
    return REPOSITORY / "helm" / chart / "charts" / _LIBRARY.name


def main() -> None:
    """Write all generated files, and remove files that the library chart no longer has."""
    for chart in CHARTS:
        shutil.rmtree(vendored(chart), ignore_errors=True)
    for path, content in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main()
