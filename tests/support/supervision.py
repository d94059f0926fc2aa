"""Run commands at the same time: their output is labelled, and one failure ends all."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_END_WITHIN = 50.0
"""Seconds that an interrupted command has for its own clean-up before it is killed."""
_REST_OF_OUTPUT_WITHIN = 5.0
"""Seconds to wait for the rest of an ended command's output, which a child may keep open."""
_LOW_PRIORITY = 10


@dataclass(frozen=True)
class Command:
    """A command, and the name at the start of each line of its output."""

    name: str
    argv: Sequence[str]
    low_priority: bool = False
    """Whether it gives way to other processes that need the processor."""
    after: str | None = None
    """The name of an earlier command that has to succeed before this one starts."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code and duration. An interrupted command counts as failed."""

    returncode: int
    seconds: float


_Notices = queue.SimpleQueue[str | None]
"""Names of ended commands, and None for an interrupt. A signal handler may put into it."""


class _Running:
    """A started command, whose output is copied line by line."""

    def __init__(self, command: Command, ended: _Notices) -> None:
        self.command = command
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        if command.low_priority:
            _lower(self.process.pid)
        threading.Thread(target=self._watch, args=[ended], daemon=True).start()

    def _watch(self, ended: _Notices) -> None:
        copying = threading.Thread(target=self._copy, daemon=True)
        copying.start()
        self.process.wait()
        copying.join(_REST_OF_OUTPUT_WITHIN)
        ended.put(self.command.name)

    def _copy(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            sys.stdout.write(f"[{self.command.name}] {line.rstrip()}\n")
            sys.stdout.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command and its children, as a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def result(self) -> Ended:
        return Ended(self.process.wait(), time.monotonic() - self.started)


def run_together(commands: Sequence[Command], end_within: float = _END_WITHIN) -> dict[str, Ended]:
    """Run `commands` at the same time and return how each that was started ended, by name.

    A command with `after` starts when the one that it names has succeeded. If one fails, the others
    are interrupted as by Ctrl-C, and killed after `end_within` seconds. An interrupt of this
    process does the same to all commands, then raises KeyboardInterrupt.
    """
    ended: _Notices = queue.SimpleQueue()
    results: dict[str, Ended] = {}
    running: dict[str, _Running] = {}
    for at, each in enumerate(commands):
        if each.after not in {None, *(earlier.name for earlier in commands[:at])}:
            msg = f"{each.name} would never start: no command before it is named {each.after}"
            raise ValueError(msg)

    def start_those_after(name: str | None) -> None:
        for each in commands:
            if each.after == name:
                running[each.name] = _Running(each, ended)

    with _interrupts_put_into(ended):
        try:
            start_those_after(None)
            while running and all(each.returncode == 0 for each in results.values()):
                name = ended.get()
                if name is None:
                    raise KeyboardInterrupt
                results[name] = running.pop(name).result()
                if results[name].returncode == 0:
                    start_those_after(name)
        finally:
            results |= _end(running, ended, end_within)
    return results


def _end(running: dict[str, _Running], ended: _Notices, within: float) -> dict[str, Ended]:
    results: dict[str, Ended] = {}
    for each in running.values():
        each.signal(signal.SIGINT)
    deadline = time.monotonic() + within
    while running:
        try:
            name = ended.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            for name, each in running.items():
                sys.stdout.write(f"[{name}] did not end within {within:.0f} s, and is killed\n")
                each.signal(signal.SIGKILL)
            deadline = time.monotonic() + within
        else:
            if name is None:
                continue
            result = running.pop(name).result()
            results[name] = Ended(result.returncode or signal.SIGINT, result.seconds)
    return results


@contextmanager
def _interrupts_put_into(ended: _Notices) -> Iterator[None]:
    """Put None into the queue for SIGINT and SIGTERM, even if the shell has disabled SIGINT.

    An exception could be raised when a command has started and is not yet in the list.
    """

    def interrupt(*_: object) -> None:
        ended.put(None)

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _lower(pid: int) -> None:
    """Lower the priority of a process and its future children, and of its session as a whole.

    Linux shares the processor between sessions before it looks at the priority of a process.
    """
    os.setpriority(os.PRIO_PROCESS, pid, _LOW_PRIORITY)
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(_LOW_PRIORITY))
