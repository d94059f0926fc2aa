"""The command `new`: write a flow, its deployment and its test, made from a template."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.console import out
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.new_flow import declarations
from prefect_platform_cli.new_flow.declarations import TEMPLATES
from prefect_platform_cli.new_flow.flow_name import FlowName, parse, refuse_hidden

_TESTS = REPOSITORY / "tests" / "unit" / "new_flow" / "templates"
_IMPORT = "from prefect_platform_cli.new_flow.templates import"
_DEPLOYMENTS = Path("prefect.yaml")
_PLATFORM = Path("k8s", "environments", "local", "platform.yaml")
NAMES = tuple(
    FlowName(path.stem) for path in sorted(TEMPLATES.glob("*.py")) if path.stem != "__init__"
)


@dataclass(frozen=True)
class Written:
    """What was written: all paths, and among them the test; the deployment; its limit as YAML."""

    paths: list[Path]
    test: Path
    deployment: str
    limit: str | None


def run(name: str, template: str) -> None:
    """Write the flow `name` into this repository, and print what was written and what to do next.

    Raises PlatformError like `new`.
    """
    written = new(name, template)
    lines = [f"wrote {path}" for path in written.paths]
    if written.limit is not None:
        lines += ["", "For another environment, add this to its platform.yaml:", "", written.limit]
    lines += [
        f"The deployment is {written.deployment}. Change the flow, then check it:",
        "  .venv/bin/prefect-platform lint flows prefect.yaml",
        f"  .venv/bin/python -m pytest {written.test}",
    ]
    out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def new(name: str, template: str, repository: Path = REPOSITORY) -> Written:
    """Write the flow `name` into `repository`; nothing is written if something stands in the way.

    Raises PlatformError when the name or the template is wrong, when the flow exists, and when
    prefect.yaml or platform.yaml cannot be read or written.
    """
    flow = parse(name)
    source = _template(template, name)
    file = Path("flows", f"{flow.module}.py")
    test = Path("tests", "unit", "flows", f"test_{flow.module}.py")
    origins = {
        file: TEMPLATES / f"{source.module}.py",
        test: _TESTS / f"test_{source.module}.py",
    }
    for path in origins:
        if (repository / path).exists():
            raise declarations.exists(flow, f"there is {path}")
    refuse_hidden(flow)
    texts = {path: _renamed(origin.read_text(), source, flow) for path, origin in origins.items()}
    texts[_DEPLOYMENTS], deployment = declarations.with_deployment(
        repository / _DEPLOYMENTS, source, flow
    )
    limit = declarations.slots(source)
    if limit is not None:
        texts[_PLATFORM] = declarations.with_limit(repository / _PLATFORM, flow, limit)
    _write({repository / path: text for path, text in texts.items()})
    alone = None if limit is None else declarations.with_limit(None, flow, limit)
    return Written(list(texts), test, deployment, alone)


def _template(given: str, name: str) -> FlowName:
    known = {template.kebab: template for template in NAMES}
    template = known.get(given.replace("_", "-"))
    if template is None:
        raise PlatformError(
            f"there is no template {given}: the templates are {', '.join(known)}",
            next_step=f".venv/bin/prefect-platform new {name} --template {next(iter(known))}",
        )
    return template


def _renamed(text: str, template: FlowName, flow: FlowName) -> str:
    names = {
        f"{_IMPORT} {template.module}": f"import {flow.module}",
        template.module: flow.module,
        template.kebab: flow.kebab,
    }
    # In one pass, because the new name may contain the old one.
    return re.sub("|".join(names), lambda found: names[found[0]], text)


def _write(texts: Mapping[Path, str]) -> None:
    """Write all files, or none of them if one cannot be written."""
    staged = {path.with_name(f".{path.name}.unfinished"): path for path in texts}
    try:
        for unfinished, path in staged.items():
            unfinished.write_text(texts[path])
        for unfinished, path in staged.items():
            unfinished.replace(path)
    except OSError as error:
        raise PlatformError(
            f"{error.filename} cannot be written: {error.strerror}",
            next_step="create the folder or make it writable, and run the same command again",
        ) from error
    finally:
        for unfinished in staged:
            unfinished.unlink(missing_ok=True)
