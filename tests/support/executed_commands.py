"""The command line of every process that starts on this machine, in containers too.

The kernel tells of each exec (its "process events connector"), so that a command that lives for
some milliseconds, such as a probe in a container, is not between two looks, as it would be for a
sampler.
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
    """What was executed, each command line once; `missed` of `executed` had ended at a look.

    `failure` says why nothing was seen after some moment, such as that the kernel had more to tell
    than was read in time; the record ends then, and what is recorded goes on.
    """

    seen: set[Place] = field(default_factory=set)
    executed: int = 0
    missed: int = 0
    failure: OSError | None = None

    def note(self, pid: int) -> None:
        """Add a process."""
        self.executed += 1
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            program = Path(f"/proc/{pid}/exe").readlink()
        except OSError:
            self.missed += 1
        else:
            self.seen.add((f"the command line of a process of {program}", command))


def available() -> bool:
    """Return whether the kernel tells us, which it does for root alone."""
    return os.geteuid() == 0 and Path("/proc/net/connector").exists()


@contextmanager
def recorded() -> Iterator[ExecutedCommands]:
    """Record what runs already and what is executed in the block."""
    commands, stop = ExecutedCommands(), threading.Event()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _CONNECTOR) as events:
        events.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCED, _BUFFER)
        events.settimeout(0.2)
        events.bind((0, _PROCESSES))
        order = _MESSAGE.pack(_PROCESSES, 1, 0, 0, 4, 0) + struct.pack("=I", _LISTEN)
        events.send(_NETLINK.pack(_NETLINK.size + len(order), 3, 0, 0, 0) + order)

        def listen() -> None:
            # Before all others, or a short process would have ended when we look.
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            try:
                while not stop.is_set():
                    with suppress(TimeoutError):
                        told = events.recv(4096)
                        what, _, _, pid = _EVENT.unpack_from(told, _NETLINK.size + _MESSAGE.size)
                        if what == _EXECUTED:
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
