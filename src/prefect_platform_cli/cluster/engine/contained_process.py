"""A program in its own PID and mount namespaces, which the kernel ends as a whole.

When the first process of a PID namespace ends, for any reason, the kernel kills all other processes
in it. When the last of them has ended, the mounts of the mount namespace are gone, and so are all
network namespaces that were kept there.
"""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform.polling import wait_while

_MARK = "PREFECT_PLATFORM_ENGINE"
_ENDS_WITHIN = 30  # seconds

# The programs write to fixed paths. Private mounts keep these writes off the machine: the programs
# have their own /run, except for the files of the name resolver, and /opt is read-only.
_ENTER = """
mount -n --bind /run "$1"
mount -n -t tmpfs -o mode=755 tmpfs /run
for name in systemd resolvconf NetworkManager; do ln -s "$1/$name" /run/; done
if [ -d /opt ]; then mount -n --bind /opt /opt; mount -n -o remount,bind,ro /opt; fi
ulimit -n "$(ulimit -Hn)"
shift
exec "$@"
"""


class ContainedProcess:
    """A program and its descendants, identified by the path of its folder in their environment.

    `folder` belongs to this program alone. Launching the program creates `folder`/machine-run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def launch(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Start `argv`, whose output is appended to `log`; it outlives the calling process."""
        machine_run = self._folder / "machine-run"
        machine_run.mkdir(mode=0o700, exist_ok=True)
        with log.open("ab") as output:
            subprocess.run(
                [
                    # It gets its own session, so that Ctrl-C in the terminal does not end it.
                    *("setsid", "--fork", "unshare", "--mount", "--propagation=slave", "--pid"),
                    *("--fork", "--kill-child", "--mount-proc", "sh", "-ec", _ENTER, "sh"),
                    *(str(machine_run), *argv),
                ],
                env={**env, _MARK: str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                check=True,
                start_new_session=True,  # so that Ctrl-C does not end the launcher halfway
            )

    def members(self) -> list[int]:
        """Return the ids of the processes that carry the mark; those in containers do not."""
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in pids if self._is_member(pid)]

    def end(self) -> None:
        """End every process in the namespaces; PlatformError when they do not end in time."""

        def remaining() -> list[int]:
            with ExitStack() as handles:
                killed = [self._kill(pid, handles) for pid in self.members()]
                for handle in killed:
                    if handle is not None:
                        select.select([handle], [], [], _ENDS_WITHIN)
            return self.members()

        if pids := wait_while(remaining, _ENDS_WITHIN):
            raise PlatformError(
                f"the processes {pids} of {self._folder} did not end within {_ENDS_WITHIN} s",
                next_step=f"`ps -fp {pids[0]}` shows their state; end them, then run the command "
                "again",
            )

    def _is_member(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # the process has ended, or belongs to another user
            return False
        return f"{_MARK}={self._folder}".encode() in environment.split(b"\0")

    def _kill(self, pid: int, handles: ExitStack) -> int | None:
        """Kill `pid` and return a handle that becomes readable when it ends; None if it has ended.

        The handle is opened before the check, so that a process with a reused id is never killed.
        """
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        handles.callback(os.close, handle)
        if not self._is_member(pid):
            return None
        with suppress(ProcessLookupError):  # it has ended already
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        return handle
