"""Add a flow to prefect.yaml and platform.yaml, whose comments and order stay."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from prefect_platform.configuration.core.source import read
from prefect_platform.errors import PlatformError
from prefect_platform_cli.new_flow.flow_name import FlowName

TEMPLATES = Path(__file__).with_name("templates")
POOL = "default"

Child = TypeVar("Child", CommentedMap, CommentedSeq)


def with_deployment(path: Path, template: FlowName, flow: FlowName) -> tuple[str, str]:
    """Return the text of `path`, a prefect.yaml, with the deployment of `flow`, and its full name.

    Raises PlatformError if there is one of the same file, and if the file has another form.
    """
    data = _mapping(path)
    entries = _inside(path, data, "deployments", CommentedSeq())
    for each in entries:
        if not isinstance(each, CommentedMap):
            raise _another_form(path, "an item of deployments", CommentedMap())
    entrypoint = f"flows/{flow.module}.py:{flow.module}"
    file, _, _ = entrypoint.partition(":")
    if any(str(each.get("entrypoint")).startswith(f"{file}:") for each in entries):
        raise exists(flow, f"{path.name} has a deployment of {file}")
    origin = f"{template.module}.py:{template.module}"
    known = _mapping(TEMPLATES / "prefect.yaml")["deployments"]
    [entry] = [each for each in known if each["entrypoint"] == origin]
    entry |= {"entrypoint": entrypoint, "tags": _flow_style(flow.kebab)}
    entries.append(entry)
    return _dumped(data), f"{flow.kebab}/{entry['name']}"


def slots(template: FlowName) -> Mapping[str, Any] | None:
    """Return the concurrency limit that `template` uses, if it uses one."""
    limits: dict[str, Mapping[str, Any]] = _mapping(TEMPLATES / "platform.yaml")[
        "concurrency_limits"
    ]
    return limits.get(template.kebab)


def with_limit(path: Path | None, flow: FlowName, limit: Mapping[str, Any]) -> str:
    """Return the text of `path`, a platform.yaml, with `limit`, granted to the runs of POOL.

    Without `path`, the text has nothing else. Raises PlatformError if the limit exists, and if the
    file has another form.
    """
    data = CommentedMap() if path is None else _mapping(path)
    name = "platform.yaml" if path is None else path
    pools = _inside(name, data, "work_pools", CommentedMap())
    pool = _inside(name, pools, POOL, CommentedMap())
    grants = _inside(name, pool, "grants", CommentedMap())
    granted = _inside(name, grants, "concurrency_limits", _flow_style())
    limits = _inside(name, data, "concurrency_limits", CommentedMap())
    if flow.kebab in limits:
        raise exists(flow, f"{name} declares a concurrency limit of this name")
    limits[flow.kebab] = limit
    if flow.kebab not in granted:
        granted.append(flow.kebab)
    return _dumped(data)


def exists(flow: FlowName, found: str) -> PlatformError:
    """Return the error that something of the name of `flow` has been `found`."""
    return PlatformError(
        f"the flow {flow.kebab} exists: {found}",
        next_step=f".venv/bin/prefect-platform new {flow.kebab}-2 --template TEMPLATE, or remove "
        "what exists",
    )


def _mapping(path: Path) -> CommentedMap:
    read(path)  # names the line of an error
    data = _yaml().load(path.read_text())
    if data is None:
        return CommentedMap()
    if not isinstance(data, CommentedMap):
        raise _another_form(path, "the file", CommentedMap())
    return data


def _inside(path: Path | str, parent: CommentedMap, key: str, default: Child) -> Child:
    """Return the value of `key`, which becomes `default` if it is missing or empty."""
    if parent.get(key) is None:
        parent[key] = default
    found = parent[key]
    if not isinstance(found, type(default)):
        raise _another_form(path, key, default)
    return found


def _another_form(
    path: Path | str, what: str, expected: CommentedMap | CommentedSeq
) -> PlatformError:
    form = "a mapping" if isinstance(expected, CommentedMap) else "a list"
    return PlatformError(
        f"{path}: {what} is not {form}",
        next_step="correct it; `prefect-platform validate` checks the file",
    )


def _flow_style(*items: str) -> CommentedSeq:
    written = CommentedSeq(items)
    written.fa.set_flow_style()
    return written


def _dumped(data: CommentedMap) -> str:
    text = io.StringIO()
    _yaml().dump(data, text)
    return text.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # long lines stay as they are
    # By default, a null that is written out would become an empty value.
    yaml.representer.add_representer(
        type(None),
        lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null"),
    )
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
