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


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code and duration. An interrupted command counts as failed."""

    returncode: int
    seconds: float


class _Running:
    """A started command, whose output is copied line by line."""

    def __init__(self, command: Command, ended: "queue.Queue[str]") -> None:
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

    def _watch(self, ended: "queue.Queue[str]") -> None:
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
    """Run `commands` at the same time and return how each ended, by name.

    If one fails, the others are interrupted as by Ctrl-C, and killed after `end_within` seconds.
    An interrupt of this process does the same to all commands, then raises KeyboardInterrupt.
    """
    ended: queue.Queue[str] = queue.Queue()
    results: dict[str, Ended] = {}
    with _interruptible():
        running = {each.name: _Running(each, ended) for each in commands}
        try:
            while running and all(each.returncode == 0 for each in results.values()):
                name = ended.get()
                results[name] = running.pop(name).result()
        finally:
            results |= _end(running, ended, end_within)
    return results


def _end(
    running: dict[str, _Running], ended: "queue.Queue[str]", within: float
) -> dict[str, Ended]:
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
            result = running.pop(name).result()
            results[name] = Ended(result.returncode or signal.SIGINT, result.seconds)
    return results


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGINT and SIGTERM, even if the shell has disabled SIGINT.

    Only the first signal counts: a second one must not interrupt the clean-up.
    """

    def interrupt(*_: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda *_: None)
        raise KeyboardInterrupt

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
