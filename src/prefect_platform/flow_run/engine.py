"""The process of the engine: before the engine, it runs the pull steps in a fork of itself.

Prefect runs the pull steps in one Python process, and replaces it by another that runs the engine.
Here both are forks of a process that has only imported Prefect. Where a new Python process could
behave differently, the engine gets one, and the log says why.
"""

import json
import os
import runpy
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from prefect.deployments.steps.core import run_steps
from prefect.logging import get_logger
from prefect.runner import _workspace_resolver, _workspace_supervisor
from prefect.settings import Settings, get_current_settings
from prefect.utilities.processutils import get_sys_executable

from prefect_platform.flow_run import heartbeats

# Steps that fetch files only. Others may install packages or set variables.
_FILES_ONLY = {
    f"prefect.deployments.steps.{name}"
    for step in ("git_clone", "set_working_directory")
    for name in (step, f"pull.{step}")
}


def main(receiver: int) -> None:
    """Wait for the request of the supervisor, and end like the engine; return if there is none."""
    os.setsid()
    with os.fdopen(receiver) as requests:
        if not (request := requests.read()):
            return
    command, environment = json.loads(request).values()
    installed = _installed()
    _set_environment(environment)
    prepared = _prepare(command[-1])
    os.chdir(prepared["directory"])
    _set_environment(prepared["environment"])
    added = _added()
    if reason := _difference(prepared, added):
        get_logger("flow_run").info("The engine starts in a new Python process, because %s", reason)
        os.execvp(prepared["command"][0], prepared["command"])  # noqa: S606 - as Prefect does
    sys.path[:] = [*added, *(each for each in installed if each not in added)]
    heartbeats.end_without_waiting()
    # As `python -m prefect.engine`: the flow sees the same __main__ and arguments.
    sys.modules.pop("prefect.engine", None)
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def _prepare(configuration: str) -> dict[str, Any]:
    """Run the pull steps in a fork; return what Prefect would start the engine with.

    Ends this process like the fork if that has failed, as Prefect's process would end.
    """
    receiver, sender = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(receiver)
        sys.exit(_pull(configuration, sender))
    os.close(sender)
    with os.fdopen(receiver) as answers:
        answer = answers.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        os.kill(os.getpid(), -code)
    if code or not answer:
        sys.exit(code)
    prepared: dict[str, Any] = json.loads(answer)
    return prepared


def _pull(configuration: str, sender: int) -> int:
    """Run Prefect's process of the pull steps, except for its last step; return its exit code."""
    done: list[dict[str, Any]] = []

    async def observed(steps: list[dict[str, Any]], **options: Any) -> dict[str, Any]:  # noqa: ANN401
        done.extend(steps)
        return await run_steps(steps, **options)

    async def launch(command: list[str], *, cwd: Path, environment: dict[str, str]) -> int:
        with os.fdopen(sender, "w") as answers:
            answer = {"command": command, "directory": str(cwd), "environment": environment}
            json.dump({**answer, "steps": done}, answers)
        return 0

    resolver: Any = _workspace_resolver
    resolver.run_steps = observed
    hook_command = _workspace_supervisor._hook_command

    def with_plugins(command: list[str]) -> list[str] | None:
        if command == _engine():
            return [get_sys_executable(), "-m", "prefect_platform.flow_run.hook", "hook"]
        return hook_command(command)

    _workspace_supervisor._launch_engine = launch
    _workspace_supervisor._hook_command = with_plugins
    return _workspace_supervisor.main([configuration])


def _engine() -> list[str]:
    """Return the command of an engine in this Python environment."""
    return [get_sys_executable(), "-m", "prefect.engine"]


def _difference(prepared: dict[str, Any], added: list[str]) -> str | None:
    """Return why the engine could behave differently in a new Python process, or None."""
    if prepared["command"] != _engine():
        return f"it is started by {prepared['command'][0]}"
    for name, inputs in (each for step in prepared["steps"] for each in step.items()):
        if name not in _FILES_ONLY or "requires" in (inputs or {}):
            return f"the pull step {name} may have changed the Python environment"
    if Settings() != get_current_settings():
        return f"Prefect has other settings in {prepared['directory']}"
    for name in (each for each in [*sys.modules] if "." not in each):
        found = PathFinder.find_spec(name, added)
        if found and found.origin and found.origin != getattr(sys.modules[name], "__file__", None):
            return f"{found.origin} replaces the module {name}"
    return None


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _added() -> list[str]:
    """Return what the working directory and PYTHONPATH add to the path of a new interpreter."""
    of_variable = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    directory = [] if sys.flags.safe_path else [str(Path.cwd())]
    return [*dict.fromkeys([*directory, *map(os.path.abspath, of_variable)])]


def _installed() -> list[str]:
    """Return the path of this interpreter without what `_added` returns."""
    return [each for each in sys.path if each not in _added()]
