"""Check an object against the typed models of the installed Kubernetes client, strictly.

The client's models are generated from Kubernetes' own OpenAPI description, so they know every
field, its type and whether it is required; unlike a server they are here without a network.
"""

import re
from typing import Any

from kubernetes_asyncio import client

_SCALARS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "datetime": str,
}


def check(item: dict[str, Any]) -> None:
    """Raise AssertionError with the path of the first unknown, missing or mistyped field."""
    model = _model_name(item["apiVersion"], item["kind"])
    _convert(item, model, f"{item['kind']} {item['metadata']['name']}")


def _model_name(api_version: str, kind: str) -> str:
    version = api_version.rpartition("/")[2]
    name = f"{version.capitalize()}{kind}"
    assert hasattr(client, name), f"Kubernetes has no {kind} in {api_version}"
    return name


def _convert(value: object, declared: str, path: str) -> object:
    """Return `value` as the declared type; models are built, which checks required fields."""
    if declared == "object":
        return value
    if match := re.fullmatch(r"list[\[(](.+)[\])]", declared):
        assert isinstance(value, list), f"{path}: a list is needed, not {value!r}"
        return [_convert(entry, match[1], f"{path}[{i}]") for i, entry in enumerate(value)]
    if match := re.fullmatch(r"dict[\[(]str, (.+)[\])]", declared):
        assert isinstance(value, dict), f"{path}: a map is needed, not {value!r}"
        return {key: _convert(entry, match[1], f"{path}.{key}") for key, entry in value.items()}
    if declared in _SCALARS:
        matches = isinstance(value, _SCALARS[declared]) and (
            declared == "bool" or not isinstance(value, bool)
        )
        assert matches, f"{path}: {declared} is needed, not {value!r}"
        return value
    assert isinstance(value, dict), f"{path}: {declared} is needed, not {value!r}"
    model = getattr(client, declared)
    attributes = {json_name: name for name, json_name in model.attribute_map.items()}
    unknown = set(value) - set(attributes)
    assert not unknown, f"{path}: {declared} has no {', '.join(sorted(unknown))}"
    converted = {
        attributes[key]: _convert(entry, model.openapi_types[attributes[key]], f"{path}.{key}")
        for key, entry in value.items()
    }
    try:
        return model(**converted)
    except ValueError as error:
        raise AssertionError(f"{path}: {error}") from error
