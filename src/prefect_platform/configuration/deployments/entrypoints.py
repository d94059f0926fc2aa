"""Read the facts about a flow from its entrypoint, loaded in the same way as `prefect deploy`."""

import ast
import inspect
import os
import sys
import traceback
from collections.abc import Callable
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


Load = Callable[[str], FlowFacts]
"""Returns the facts about the flow at an entrypoint; raises EntrypointError."""


class EntrypointError(Exception):
    """An entrypoint from which no flow can be loaded."""

    def __init__(self, cause: str, fix: str = "correct it") -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix


def load(directory: Path, entrypoint: str, *, complete: bool = False) -> FlowFacts:
    """Return the facts about the flow at `entrypoint`, by executing its file in `directory`.

    It changes the working directory and the modules of this process, which should end afterwards.

    `entrypoint` is `FILE.py:FUNCTION`, `FILE.py:CLASS.METHOD` or `MODULE.FUNCTION`. If an import of
    the flow is not installed here, the facts are read from its source, provided that none of them
    is lost that way. With `complete`, everything has to be installed. Raises EntrypointError, and
    SystemExit if the file does.
    """
    file = _file(directory, entrypoint)
    os.chdir(directory)
    sys.path.insert(0, str(directory))
    try:
        flow, version = _flow(directory, file, entrypoint, complete=complete)
        # As `prefect deploy` sends it: without keys that are not set.
        schema = parameter_schema(flow).model_dump(exclude_unset=True, mode="json")
    except (EntrypointError, SystemExit):
        raise
    except MissingFlowError as error:
        raise EntrypointError(str(error).strip()) from error
    except ScriptError as error:
        raise EntrypointError(_failed(directory, entrypoint, error.user_exc)) from error
    except BaseException as error:  # a flow's file may raise anything
        raise EntrypointError(_failed(directory, entrypoint, error)) from error
    return FlowFacts(flow.name, flow.description, version, schema)


def named(entrypoint: str) -> str:
    """Return what messages call the entrypoint: its file, or the whole if it names a module."""
    return entrypoint.rpartition(":")[0] or entrypoint


def _failed(directory: Path, entrypoint: str, error: BaseException) -> str:
    """Return the exception in one line, with the innermost line of the flow's own code."""
    raised = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    own = [
        f" ({path.relative_to(directory)}, line {frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if (path := Path(frame.filename)).is_relative_to(directory)
        and "site-packages" not in path.parts
    ]
    # The text of a SyntaxError has the file and the line, which no frame has yet.
    at = own[-1] if own and not isinstance(error, SyntaxError) else ""
    return f"{named(entrypoint)} cannot be loaded: {raised}{at}"


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


def _flow(
    directory: Path, file: Path | None, entrypoint: str, *, complete: bool
) -> tuple[Flow[..., Any], str | None]:
    """Return the flow and its version, read from its source if a module is not installed."""
    try:
        flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except ScriptError as error:
        if complete or file is None or not isinstance(error.user_exc, ModuleNotFoundError):
            raise
        missing = error.user_exc
    else:
        return flow, flow.version
    placeholder: Flow[..., Any] | None = safe_load_flow_from_entrypoint(entrypoint)
    if not isinstance(placeholder, Flow):
        raise EntrypointError(_failed(directory, entrypoint, missing), _INSTALL) from missing
    if lost := _lost(file, placeholder):
        raise EntrypointError(
            f"{_failed(directory, entrypoint, missing)}; without it, the type or default of "
            f"these parameters is unknown: {', '.join(lost)}",
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
