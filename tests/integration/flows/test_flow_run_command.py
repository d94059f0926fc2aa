"""The command of job pods ends every run as `prefect flow-run execute` does.

`make test-whole` runs the same scenarios with Prefect's own command, so that an expectation here is
what Prefect does.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prefect_platform.polling import wait_until
from tests.support.servers import api_client, clean_environment

_FLOWS = Path(__file__).parent
_OURS = ("prefect_platform.flow_run",)
_PREFECTS = ("prefect", "flow-run", "execute")
_WITHIN = 300.0  # seconds, enough for a busy machine
_STEP = "prefect.deployments.steps.set_working_directory"

each_command = pytest.mark.parametrize(
    "command", [_OURS, pytest.param(_PREFECTS, marks=pytest.mark.whole)], ids=["ours", "prefects"]
)


@dataclass
class Pod:
    """A flow run and the process that executes it, in a directory of their own."""

    api: str
    directory: Path
    run: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    def create(self, flow: str, *steps: dict[str, Any], **parameters: object) -> None:
        """Create a run of a flow in endings.py, by default with this folder as its directory."""
        deployment = {
            "name": "of-tests",
            "flow_id": self.post("flows/", {"name": flow})["id"],
            "entrypoint": f"{_FLOWS}/endings.py:{flow}",
            "pull_steps": [*(steps or [{_STEP: {"directory": str(_FLOWS)}}])],
            "enforce_parameter_schema": False,
        }
        made = self.post("deployments/", deployment)["id"]
        body = {"parameters": parameters}
        self.run = self.post(f"deployments/{made}/create_flow_run", body)["id"]

    @contextmanager
    def started(self, command: tuple[str, ...]) -> Iterator["subprocess.Popen[bytes]"]:
        """Start the command in a directory of its own, and kill it at the end."""
        for name in ("notes", "home", "start"):
            (self.directory / name).mkdir()
        environment = clean_environment(
            self.directory / "home",
            PREFECT_API_URL=self.api,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30",
            PREFECT_LOCAL_STORAGE_PATH=str(self.directory / "results"),
            PREFECT_PLUGINS_ENABLED="true",
            PREFECT_PLUGINS_ALLOW="first-connection,pod-token,result-writes",
            DO_NOT_TRACK="1",
            NOTES=str(self.directory / "notes"),
            PYTHONPATH=str(_FLOWS),
            **self.variables,
        )
        with (self.directory / "output").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *command, self.run],
                cwd=self.directory / "start",
                env=environment,
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def execute(self, command: tuple[str, ...]) -> int:
        """Execute the run, and return the exit code."""
        with self.started(("-m", *command)) as process:
            return process.wait(_WITHIN)

    def awaits(self, note: str) -> str:
        """Return the content of a note of the flow, which may not have been made yet."""
        path = self.directory / "notes" / note
        assert wait_until(path.exists, _WITHIN), self.output
        return path.read_text()

    @property
    def notes(self) -> set[str]:
        return {each.name for each in (self.directory / "notes").iterdir()}

    @property
    def output(self) -> str:
        return (self.directory / "output").read_text()

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.get(f"flow_runs/{self.run}")["state"])

    @property
    def states(self) -> list[str]:
        """The names of all states of the run, in order."""
        found = self.get(f"flow_run_states/?flow_run_id={self.run}")
        return [each["name"] for each in sorted(found, key=lambda each: each["timestamp"])]

    @property
    def log(self) -> list[str]:
        """The messages in the log of the run, in the order that the user interface shows."""
        found: list[str] = []
        while True:
            page = self.post(
                "logs/filter",
                {
                    "logs": {"flow_run_id": {"any_": [self.run]}},
                    "sort": "TIMESTAMP_ASC",
                    "offset": len(found),
                },
            )
            if not page:
                return found
            found += [each["message"] for each in page]

    def logs(self, message: str) -> bool:
        """Return whether the log of the run contains a message that begins so, or soon does."""
        return wait_until(lambda: any(each.startswith(message) for each in self.log), _WITHIN)

    def get(self, path: str) -> Any:  # noqa: ANN401
        with api_client(self.api) as client:
            return client.get(path).json()

    def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401
        with api_client(self.api) as client:
            return client.post(path, json=body).json()


@pytest.fixture
def pod(api: str, tmp_path: Path) -> Pod:
    return Pod(api, tmp_path)


@each_command
def test_a_completed_run_has_its_result_its_log_in_order_and_heartbeats(
    pod: Pod, command: tuple[str, ...]
) -> None:
    pod.create("completes", number=21)
    assert pod.execute(command) == 0, pod.output

    assert pod.state["type"] == "COMPLETED", pod.output
    assert pod.logs("Finished in state Completed()")
    assert [each for each in pod.log if each.startswith("line ")] == [
        f"line {number}" for number in range(200)
    ]
    assert "Executing deployment step: set_working_directory" in pod.log
    stored = [json.loads(each.read_text()) for each in (pod.directory / "results").iterdir()]
    assert 42 in stored

    def heartbeats() -> int:
        about = {"id": [f"prefect.flow-run.{pod.run}"]}
        named = {"prefix": ["prefect.flow-run.heartbeat"]}
        found = pod.post("events/filter", {"filter": {"event": named, "resource": about}})
        return int(found["total"])

    assert wait_until(heartbeats, _WITHIN)


@each_command
@pytest.mark.parametrize(
    ("flow", "names", "message"),
    [
        ("fails", ["Running", "Failed"], "ValueError: of the flow"),
        ("returns_failed", ["Running", "Failed"], "of the flow"),
        ("retries", ["Running", "AwaitingRetry", "Running", "Completed"], None),
        ("times_out", ["Running", "TimedOut"], "exceeded timeout of 1.0 second(s)"),
        ("exits", ["Running", "Crashed"], "Process exited with status code: 3."),
        ("is_killed", ["Running", "Crashed"], "Process exited with status code: -9."),
        ("interrupts", ["Running", "Crashed"], "Execution was aborted by an interrupt signal."),
    ],
)
def test_a_run_ends_as_with_prefects_command(
    pod: Pod, command: tuple[str, ...], flow: str, names: list[str], message: str | None
) -> None:
    pod.create(flow)
    assert pod.execute(command) == 0, pod.output

    assert pod.states[pod.states.index("Running") :] == names, pod.output
    assert message is None or message in pod.state["message"]
    assert ("on_crashed" in pod.notes) == (names[-1] == "Crashed"), pod.output


@each_command
def test_a_cancelled_run_is_told_to_stop_and_runs_its_hook(
    pod: Pod, command: tuple[str, ...]
) -> None:
    pod.create("waits")
    with pod.started(("-m", *command)) as process:
        pod.awaits("started")
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        pod.post(f"flow_runs/{pod.run}/set_state", cancelling)
        assert process.wait(_WITHIN) == 0, pod.output

    assert pod.state["type"] == "CANCELLED", pod.output
    assert pod.notes == {"started", "finally", "on_cancellation"}


@each_command
@pytest.mark.parametrize(
    ("behaviour", "code", "name"),
    [("reschedule", 0, "AwaitingRetry"), ("relinquish", 1, "Running")],
)
def test_a_terminated_pod_leaves_the_run_in_the_state_that_the_setting_names(
    pod: Pod, command: tuple[str, ...], behaviour: str, code: int, name: str
) -> None:
    pod.variables["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] = behaviour
    pod.create("waits")
    with pod.started(("-m", *command)) as process:
        pod.awaits("started")
        process.send_signal(signal.SIGTERM)
        assert process.wait(_WITHIN) == code, pod.output

    assert pod.state["name"] == name, pod.output
    assert pod.notes == {"started", "finally"}


@each_command
def test_without_a_setting_a_signal_ends_the_supervisor_and_not_the_engine(
    pod: Pod, command: tuple[str, ...]
) -> None:
    pod.create("waits")
    with pod.started(("-m", *command)) as process:
        pod.awaits("started")
        process.send_signal(signal.SIGTERM)
        assert process.wait(_WITHIN) == -signal.SIGTERM, pod.output

    (pod.directory / "notes" / "go").touch()
    assert wait_until(lambda: pod.state["type"] == "COMPLETED", _WITHIN), pod.output


@each_command
def test_a_run_that_hangs_while_its_flow_is_imported_is_rescheduled(
    pod: Pod, command: tuple[str, ...]
) -> None:
    pod.variables["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] = "reschedule"
    pod.variables["HANG"] = "true"
    pod.create("waits")
    with pod.started(("-m", *command)) as process:
        pod.awaits("importing")
        process.send_signal(signal.SIGTERM)
        assert process.wait(_WITHIN) == 0, pod.output

    assert pod.state["name"] == "AwaitingRetry", pod.output
    assert "Engine did not acknowledge reschedule intent" in pod.output


@each_command
def test_a_failed_pull_step_crashes_the_run(pod: Pod, command: tuple[str, ...]) -> None:
    pod.create("completes", {_STEP: {"directory": "/nowhere"}})
    assert pod.execute(command) == 0, pod.output

    assert pod.state["type"] == "CRASHED", pod.output
    assert pod.state["message"].startswith("Process exited with status code: 1.")
    assert "No such file or directory: '/nowhere'" in pod.output


def test_a_flow_sees_the_same_process_as_with_prefects_command(api: str, tmp_path: Path) -> None:
    seen = []
    for command in (_OURS, _PREFECTS):
        pod = Pod(api, tmp_path / command[0])
        pod.directory.mkdir()
        pod.create("observes")
        assert pod.execute(command) == 0, pod.output
        text = pod.awaits("seen").replace(str(pod.directory), "DIRECTORY")
        seen.append(json.loads(text))

    assert seen[0] == seen[1]


@each_command
def test_a_pull_step_can_change_the_environment_of_the_run(
    pod: Pod, command: tuple[str, ...]
) -> None:
    pod.create("uses_the_workspace", {"pull_step.set_variable": {}})
    assert pod.execute(command) == 0, pod.output

    assert pod.logs("variable set, "), pod.output
    why = "the pull step pull_step.set_variable may have changed the Python environment"
    assert (why in pod.output) == (command == _OURS)


@each_command
def test_a_module_of_the_working_directory_precedes_one_that_prefect_has_imported(
    pod: Pod, command: tuple[str, ...]
) -> None:
    workspace = pod.directory / "workspace"
    workspace.mkdir()
    (workspace / "cyclopts.py").touch()
    pod.create("uses_the_workspace", {_STEP: {"directory": str(workspace)}})
    assert pod.execute(command) == 0, pod.output

    assert pod.logs(f"variable None, cyclopts in {workspace}"), pod.output


@each_command
def test_the_settings_of_the_working_directory_are_those_of_the_engine(
    pod: Pod, command: tuple[str, ...]
) -> None:
    workspace = pod.directory / "workspace"
    workspace.mkdir()
    (workspace / "prefect.toml").write_text("[flows]\ndefault_retries = 1\n")
    pod.create("fails", {_STEP: {"directory": str(workspace)}})
    assert pod.execute(command) == 0, pod.output

    assert pod.states.count("AwaitingRetry") == 1, pod.output


def test_threads_of_the_import_are_kept_by_new_processes_and_a_warning(pod: Pod) -> None:
    program = (
        "import runpy, threading; "
        "threading.Thread(target=threading.Event().wait, name='of-a-library', daemon=True).start();"
        "runpy.run_module('prefect_platform.flow_run', run_name='__main__', alter_sys=True)"
    )
    pod.create("completes")
    with pod.started(("-c", program)) as process:
        assert process.wait(_WITHIN) == 0, pod.output

    assert pod.state["type"] == "COMPLETED", pod.output
    assert "started threads, which a fork would lose: of-a-library" in pod.output
