"""Read the facts about a flow from its entrypoint, loaded in the same way as `prefect deploy`."""

import ast
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.exceptions import MissingFlowError, ScriptError
from prefect.flows import load_flow_from_entrypoint, safe_load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.hashing import file_hash

_INSTALL = "correct it, or install what it imports, as in the image of the flows"


@dataclass(frozen=True)
class FlowFacts:
    """What a deployment takes from its flow."""

    name: str
    description: str | None
    version: str | None
    """The version in the decorator, else a checksum of the flow's file, wherever the file is."""
    parameter_schema: dict[str, Any]


class EntrypointError(Exception):
    """An entrypoint from which no flow can be loaded."""

    def __init__(self, cause: str, fix: str = "correct it") -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix


def load(directory: Path, entrypoint: str) -> FlowFacts:
    """Return the facts about the flow at `entrypoint`, by executing its file in `directory`.

    `entrypoint` is `FILE.py:FUNCTION`, `FILE.py:CLASS.METHOD` or `MODULE.FUNCTION`. If an import of
    the flow is not installed here, the facts are read from its source, provided that none of them
    is lost that way. Raises EntrypointError.
    """
    file = _file(directory, entrypoint)
    with _running_in(directory):
        try:
            flow, version = _flow(file, entrypoint)
            # As `prefect deploy` sends it: without keys that are not set.
            schema = parameter_schema(flow).model_dump(exclude_unset=True, mode="json")
        except EntrypointError:
            raise
        except MissingFlowError as error:
            raise EntrypointError(str(error).strip()) from error
        except ScriptError as error:
            raise EntrypointError(_failed(file, entrypoint, error.user_exc)) from error
        except (Exception, SystemExit) as error:  # a flow's file may raise anything
            raise EntrypointError(_failed(file, entrypoint, error)) from error
    return FlowFacts(flow.name, flow.description, version, schema)


def _failed(file: Path | None, entrypoint: str, error: BaseException) -> str:
    what = file or entrypoint
    return f"{what} cannot be loaded: {type(error).__name__}: {error}".rstrip(": ")


def _file(directory: Path, entrypoint: str) -> Path | None:
    """Return the entrypoint's file relative to `directory`, None if it names a module."""
    path, colon, function = entrypoint.rpartition(":")
    if not colon or not path.endswith(".py"):
        if "." not in entrypoint:
            raise EntrypointError(
                f"{entrypoint} is not an entrypoint",
                "write FILE.py:FUNCTION, such as flows/etl.py:etl",
            )
        return None
    if Path(path).is_absolute():
        raise EntrypointError(
            f"the entrypoint {entrypoint} is an absolute path, which job pods may not have",
            "write it relative to this file",
        )
    if not (directory / path).is_file():
        raise EntrypointError(f"there is no file {path} for the flow {function}")
    return Path(path)


def _flow(file: Path | None, entrypoint: str) -> tuple[Flow[..., Any], str | None]:
    """Return the flow and its version, read from its source if a module is not installed."""
    try:
        flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except ScriptError as error:
        if file is None or not isinstance(error.user_exc, ModuleNotFoundError):
            raise
        missing = error.user_exc
    else:
        return flow, flow.version
    placeholder: Flow[..., Any] | None = safe_load_flow_from_entrypoint(entrypoint)
    if not isinstance(placeholder, Flow):
        raise EntrypointError(_failed(file, entrypoint, missing), _INSTALL) from missing
    if lost := _lost(file, placeholder):
        raise EntrypointError(
            f"{_failed(file, entrypoint, missing)}; without it, the type or default of these "
            f"parameters is unknown: {', '.join(lost)}",
            _INSTALL,
        ) from missing
    return placeholder, placeholder.version or file_hash(str(file))


def _lost(file: Path, flow: Flow[..., Any]) -> list[str]:
    """Return the parameters whose annotation or default Prefect silently dropped."""
    written = next(
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name == flow.fn.__name__
    ).args
    positional = [*written.posonlyargs, *written.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(written.defaults))
    defaults += [*written.defaults, *written.kw_defaults]
    arguments = [*positional, *written.kwonlyargs]
    for variable in (written.vararg, written.kwarg):
        if variable:
            arguments.append(variable)
            defaults.append(None)
    known = inspect.signature(flow.fn).parameters
    return [
        argument.arg
        for argument, default in zip(arguments, defaults, strict=True)
        if (parameter := known.get(argument.arg))
        and (
            (argument.annotation is not None and parameter.annotation is inspect.Parameter.empty)
            or (
                default is not None and ast.unparse(default) != "None" and parameter.default is None
            )
        )
    ]


@contextmanager
def _running_in(directory: Path) -> Iterator[None]:
    """Change to `directory`, and on exit unload the modules that were imported from it.

    Otherwise `import helpers` in a second flow would return the module next to the first flow.
    """
    path, before = list(sys.path), set(sys.modules)
    importlib.invalidate_caches()
    with chdir(directory):
        try:
            yield
        finally:
            sys.path[:] = path
            installed = [Path(entry).resolve() for entry in path]
            for name in sys.modules.keys() - before:
                file = getattr(sys.modules[name], "__file__", None)
                if file and _beside(Path(file).resolve(), directory.resolve(), installed):
                    del sys.modules[name]


def _beside(file: Path, directory: Path, installed: list[Path]) -> bool:
    return file.is_relative_to(directory) and not any(
        file.is_relative_to(entry) for entry in installed if entry != directory
    )
