"""Record the command line of every process that starts on this machine, also in containers.

The kernel reports every exec through its process events connector. Sampling would miss commands
that run for only a few milliseconds, such as a probe in a container.
"""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.secret_search import Place

# From Linux's connector.h and cn_proc.h.
_CONNECTOR, _PROCESSES, _LISTEN, _EXECUTED = 11, 1, 1, 0x00000002
_NETLINK, _MESSAGE, _EVENT = (
    struct.Struct("=IHHII"),
    struct.Struct("=IIIIHH"),
    struct.Struct("=IIQi"),
)
_BUFFER_FORCED, _BUFFER = 33, 32 << 20  # SO_RCVBUFFORCE, which Python does not name; bytes


@dataclass
class ExecutedCommands:
    """The command lines that were executed, each one once.

    `missed` counts those of the `executed` processes that ended before they could be read.
    `failure` is the error that ended the recording early, for example because the kernel reported
    events faster than they were read. The recorded processes keep running then.
    """

    seen: set[Place] = field(default_factory=set)
    executed: int = 0
    missed: int = 0
    failure: OSError | None = None

    def note(self, pid: int) -> None:
        """Record the command line of a process."""
        self.executed += 1
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            program = Path(f"/proc/{pid}/exe").readlink()
        except OSError:
            self.missed += 1
        else:
            self.seen.add((f"the command line of a process of {program}", command))


def available() -> bool:
    """Return whether the kernel reports processes to us, which it does only for root."""
    return os.geteuid() == 0 and Path("/proc/net/connector").exists()


@contextmanager
def recorded() -> Iterator[ExecutedCommands]:
    """Record the processes that are running and those that start while the block runs."""
    commands, stop = ExecutedCommands(), threading.Event()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _CONNECTOR) as events:
        events.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCED, _BUFFER)
        events.settimeout(0.2)
        events.bind((0, _PROCESSES))
        order = _MESSAGE.pack(_PROCESSES, 1, 0, 0, 4, 0) + struct.pack("=I", _LISTEN)
        events.send(_NETLINK.pack(_NETLINK.size + len(order), 3, 0, 0, 0) + order)

        def listen() -> None:
            # Run before all other processes, or a short one would end before its command is read.
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            try:
                while not stop.is_set():
                    with suppress(TimeoutError):
                        event = events.recv(4096)
                        kind, _, _, pid = _EVENT.unpack_from(event, _NETLINK.size + _MESSAGE.size)
                        if kind == _EXECUTED:
                            commands.note(pid)
            except OSError as error:
                commands.failure = error

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            for running in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    (running / "exe").readlink()  # kernel threads have none
                    commands.note(int(running.name))
            yield commands
        finally:
            stop.set()
            listener.join()
