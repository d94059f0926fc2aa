"""The charts' values files match the models, and every key has a description."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from prefect_platform.values import Values
from prefect_platform_cli.charts.generate import (
    CHARTS,
    files,
    values_schema,
    values_yaml,
    vendored,
)
from prefect_platform_cli.charts.kubernetes_types import Resources
from prefect_platform_cli.charts.overrides import overrides
from prefect_platform_cli.host.paths import REPOSITORY

_FILES = files()


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_generated_file_is_up_to_date(path: Path) -> None:
    assert path.read_text() == _FILES[path], "run: python -m prefect_platform_cli.charts.generate"


@pytest.mark.parametrize("chart", CHARTS)
def test_a_vendored_copy_of_the_library_has_no_extra_files(chart: str) -> None:
    found = {path for path in vendored(chart).rglob("*") if path.is_file()}
    assert found == {path for path in files() if path.is_relative_to(vendored(chart))}


@pytest.mark.parametrize("chart", CHARTS)
def test_the_defaults_are_valid(chart: str) -> None:
    written = yaml.safe_load(values_yaml(chart))

    assert type(CHARTS[chart]).model_validate(written) == CHARTS[chart]


def undescribed(schema: object, path: str = "") -> Iterator[str]:
    """Yield the properties without a description anywhere in a schema."""
    if isinstance(schema, list):
        for item in schema:
            yield from undescribed(item, path)
    if not isinstance(schema, dict):
        return
    for key, item in schema.get("properties", {}).items():
        if not item.get("description"):
            yield f"{path}.{key}"
    for key, item in schema.items():
        yield from undescribed(item, f"{path}.{key}")


@pytest.mark.parametrize("chart", CHARTS)
def test_every_key_has_a_description(chart: str) -> None:
    schema = type(CHARTS[chart]).model_json_schema()

    assert "properties" in schema
    assert list(undescribed(schema)) == []


def test_a_key_without_a_description_is_found() -> None:
    class Bare(BaseModel):
        key: int = 1

    assert list(undescribed(Bare.model_json_schema())) == [".key"]


@pytest.mark.parametrize("chart", CHARTS)
def test_descriptions_in_the_schema_have_no_line_breaks(chart: str) -> None:
    assert "\\n" not in values_schema(chart)


class _Component(Values):
    resources: Resources
    """Required, like its requests."""
    labels: dict[str, str]
    """A map with arbitrary keys."""
    limit: int | None = None
    """Null is a valid value."""
    replicas: int = 1
    """Null is invalid."""


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"resources": {"requests": {"cpu": "2"}}},
        {"labels": {"team": None}},
        {"limit": None},
    ],
)
def test_overrides_require_nothing_and_accept_null_where_it_has_a_meaning(
    given: dict[str, object],
) -> None:
    validated = overrides(_Component).model_validate(given)

    assert validated.model_dump(by_alias=True, exclude_unset=True) == given


@pytest.mark.parametrize(
    "given",
    [
        {"replica": 1},
        {"resources": {"request": {}}},
        {"resources": {"requests": {"gpu": "1"}}},
        {"resources": {"requests": {"cpu": "two"}}},
        {"labels": {"team": 1}},
    ],
)
def test_overrides_refuse_the_mistakes_that_values_refuse(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        overrides(_Component).model_validate(given)


def test_overrides_keep_the_descriptions_and_types_of_the_values() -> None:
    schema = overrides(_Component).model_json_schema()

    assert list(undescribed(schema)) == []
    assert "required" not in schema["$defs"]["RequestsOverrides"]
    assert schema["properties"]["replicas"]["type"] == "integer"
