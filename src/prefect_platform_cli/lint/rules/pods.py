"""What works on a laptop and fails in a job pod: its files, and the programs it has."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath

from prefect_platform_cli.lint.context import Context, finding
from prefect_platform_cli.lint.findings import Finding, Rule, Severity
from prefect_platform_cli.lint.scopes import Body, Module, Scope

WRITES = Rule("PF101", Severity.SHOULD, "A file outside /tmp")
PROGRAMS = Rule("PF102", Severity.SHOULD, "A program that the image does not have")
RULES = (WRITES, PROGRAMS)

_PATHS = {"pathlib.Path", "os.path.expanduser"}
_FOLDERS = {"os.mkdir", "os.makedirs"}
_TABLES = {"to_csv", "to_parquet", "to_json", "to_excel", "write_csv", "write_parquet"}
_WRITABLE = ("/tmp", "/dev")  # noqa: S108 - where a job pod may write
_RUNS = re.compile(r"subprocess\.(run|call|check_call|check_output|Popen)|os\.system")
_MISSING = {
    *("git", "gcc", "g++", "cc", "make", "cmake", "apt", "apt-get", "pip", "pip3", "npm", "curl"),
    *("wget", "docker", "kubectl", "helm"),
}


class Pods:
    """Finds what the read-only image of a job pod refuses."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, module: Module) -> Iterator[Finding]:
        """Yield the findings of these rules in the flows and tasks of `module`."""
        seen: set[int] = set()
        for run in self._context.runs.within(module):
            for rule, search, fix in (
                (WRITES, self._written, "write below /tmp, and what has to stay to a bucket"),
                (PROGRAMS, self._program, "use a Python package, or add it to the Dockerfile"),
            ):
                for each in self._context.reach.every(run.function.body, search):
                    if each.scope.module is module and id(each.call) not in seen:
                        seen.add(id(each.call))
                        message = f"the {run.kind} {run.name} {each.name}: {fix}"
                        yield finding(rule, module, each.call, message)

    def _written(self, call: ast.Call, scope: Scope, _body: Body) -> str | None:
        path: str | None = None
        for symbol in self._context.reach.paths(call, scope):
            opens = symbol == "builtins.open" and self._opens_to_write(call, 1)
            if call.args and (opens or symbol in _FOLDERS):
                path = self._path(call.args[0], scope)
        if isinstance(call.func, ast.Attribute):
            if call.func.attr in _TABLES and call.args:
                path = self._path(call.args[0], scope)
            elif call.func.attr in {"write_text", "write_bytes", "mkdir", "touch"} or (
                call.func.attr == "open" and self._opens_to_write(call, 0)
            ):
                path = self._path(call.func.value, scope, text=False)
        if path is None or "://" in path or _is_writable(path):
            return None
        return f"writes {path}, but a job pod has a read-only file system"

    def _opens_to_write(self, call: ast.Call, position: int) -> bool:
        modes = [each.value for each in call.keywords if each.arg == "mode"]
        modes += call.args[position : position + 1]
        return any(
            isinstance(mode, ast.Constant)
            and isinstance(mode.value, str)
            and set(mode.value) & set("wax+")
            for mode in modes
        )

    def _path(self, expression: ast.expr, scope: Scope, *, text: bool = True) -> str | None:
        """Return the path that `expression` is, if it is a literal; `text` allows a plain one."""
        found = self._context.project.definition(expression, scope)
        match found:
            case (ast.Constant(value=str(path)), _) if text:
                return path
            case (ast.BinOp(op=ast.Div(), left=left, right=right), inner):
                start = self._path(left, inner, text=False)
                end = self._context.project.constant(right, inner)
                if start is None:
                    return None
                return str(PurePosixPath(start, end if isinstance(end, str) else "..."))
            case (ast.Call(func=callee, args=arguments), inner):
                called = self._context.project.resolve(callee, inner)
                if called & _PATHS and arguments:
                    return self._path(arguments[0], inner)
                return "~" if "pathlib.Path.home" in called else None
        return None

    def _program(self, call: ast.Call, scope: Scope, _body: Body) -> str | None:
        if not any(map(_RUNS.fullmatch, self._context.reach.paths(call, scope))) or not call.args:
            return None
        command = call.args[0]
        first = command.elts[0] if isinstance(command, ast.List) and command.elts else command
        value = self._context.project.constant(first, scope)
        if not isinstance(value, str):
            return None
        try:
            words = shlex.split(value)
        except ValueError:
            return None
        program = PurePosixPath(words[0]).name if words else ""
        return f"runs {program}, which its image does not have" if program in _MISSING else None


def _is_writable(path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in _WRITABLE)
