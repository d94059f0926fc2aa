"""Commands run together: output is labelled, a failure ends all, and nothing is left running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_platform.polling import wait_until
from tests.support.supervision import Command, run_together

# Reports that it has started, then waits, and cleans up when it is interrupted.
_WAITS = """
import pathlib, subprocess, sys, time
written = pathlib.Path(sys.argv[1], "child")
try:
    written.write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    written.rename(written.with_name("waiting"))
    time.sleep(600)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1], "cleaned").touch()
"""
_FAILS = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[1], "waiting").exists():
    time.sleep(0.02)
print("this is why")
sys.exit(3)
"""
_STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + _WAITS
# Is interrupted when its command is running and it has not yet returned from starting it.
_IS_INTERRUPTED_WHILE_IT_STARTS = """
import os, pathlib, signal, subprocess, sys, time
from tests.support.supervision import Command, run_together
started = pathlib.Path(sys.argv[2], "waiting")
class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        while not started.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
subprocess.Popen = Popen
run_together([Command("one", [sys.executable, "-c", sys.argv[1], sys.argv[2]])])
"""
_SUPERVISES = """
import signal, sys
from tests.support.supervision import Command, run_together
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for background jobs
run_together([Command("one", [sys.executable, "-c", sys.argv[1], sys.argv[2]])])
"""


def _python(
    name: str, code: str, folder: Path, *, low_priority: bool = False, after: str | None = None
) -> Command:
    return Command(name, [sys.executable, "-c", code, str(folder)], low_priority, after)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _assert_child_ends(folder: Path) -> None:
    child = int((folder / "waiting").read_text())
    assert wait_until(lambda: _has_ended(child), 10, every=0.05), (
        f"the child process {child} is still running"
    )


def test_every_line_starts_with_the_name_of_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [_python(name, f"print('{name} speaks')", tmp_path) for name in ("one", "two")]

    ended = run_together(commands)

    assert {name: each.returncode for name, each in ended.items()} == {"one": 0, "two": 0}
    assert sorted(capsys.readouterr().out.splitlines()) == ["[one] one speaks", "[two] two speaks"]


def test_a_failure_is_shown_and_the_other_commands_are_interrupted_and_clean_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [_python("fails", _FAILS, tmp_path), _python("waits", _WAITS, tmp_path)]

    ended = run_together(commands)

    assert ended["fails"].returncode == 3
    assert ended["waits"].returncode != 0, "an interrupted command counts as failed"
    assert "[fails] this is why\n" in capsys.readouterr().out
    assert (tmp_path / "cleaned").exists()
    _assert_child_ends(tmp_path)


def test_a_command_that_ignores_the_interrupt_is_killed_with_its_children(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [_python("fails", _FAILS, tmp_path), _python("stubborn", _STUBBORN, tmp_path)]

    ended = run_together(commands, end_within=0.3)

    assert ended["stubborn"].returncode == -signal.SIGKILL
    assert "[stubborn] did not end within" in capsys.readouterr().out
    _assert_child_ends(tmp_path)


@pytest.mark.parametrize(("code", "started"), [(0, {"one", "two"}), (1, {"one"})])
def test_a_command_after_another_starts_only_when_that_one_has_succeeded(
    tmp_path: Path, code: int, started: set[str]
) -> None:
    first = "import pathlib, sys; pathlib.Path(sys.argv[1], 'one').touch(); sys.exit({})"
    second = "import pathlib, sys; sys.exit(not pathlib.Path(sys.argv[1], 'one').exists())"
    commands = [
        _python("one", first.format(code), tmp_path),
        _python("two", second, tmp_path, after="one"),
    ]

    ended = run_together(commands)

    assert ended.keys() == started
    assert [each.returncode for each in ended.values()] == [code] * len(started)


def test_a_command_that_would_never_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two would never start: .* named misspelt"):
        run_together([_python("one", "", tmp_path), _python("two", "", tmp_path, after="misspelt")])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_commands_even_if_the_shell_ignores_sigint(
    tmp_path: Path, number: signal.Signals
) -> None:
    started = tmp_path / "waiting"
    with subprocess.Popen(
        [sys.executable, "-c", _SUPERVISES, _WAITS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    ) as supervisor:
        assert wait_until(started.exists, 60, every=0.05), "the command has not started"
        supervisor.send_signal(number)
        _, errors = supervisor.communicate(timeout=60)

    assert b"KeyboardInterrupt" in errors
    assert supervisor.returncode != 0
    assert (tmp_path / "cleaned").exists()
    _assert_child_ends(tmp_path)


def test_an_interrupt_while_a_command_is_being_started_ends_it_too(tmp_path: Path) -> None:
    supervisor = subprocess.run(
        [sys.executable, "-c", _IS_INTERRUPTED_WHILE_IT_STARTS, _WAITS, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert b"KeyboardInterrupt" in supervisor.stderr
    assert (tmp_path / "cleaned").exists()
    _assert_child_ends(tmp_path)


def test_children_of_a_low_priority_command_have_low_priority_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    wait = "import os, time\nwhile os.getpriority(os.PRIO_PROCESS, 0) != 10: time.sleep(0.02)\n"
    code = f"{wait}import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    run_together([_python("polite", code, tmp_path, low_priority=True)])

    assert capsys.readouterr().out == "[polite] 10\n"
