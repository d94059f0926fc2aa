"""The node's CNI plugin tells the agent of a new pod, and waits until its policies are in force.

One line of JSON on a socket of the node, answered by one line. Without it the agent would learn a
pod's address from the API: a second after the pod has started.
"""

import json
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

SOCKET = Path("/run/network-policy/agent.sock")
WAITED_FOR = 5  # seconds, after which the pod starts all the same, and is closed


@dataclass(frozen=True)
class Announcement:
    """The address that a new pod has been given."""

    uid: str
    address: IPv4Address
    in_force: threading.Event = field(default_factory=threading.Event)


def listen(receive: Callable[[Announcement], None]) -> None:
    """Hand every announcement to `receive`, which has its `in_force` set in time; never returns."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            told = json.loads(self.rfile.readline())
            announcement = Announcement(told["uid"], IPv4Address(told["address"]))
            receive(announcement)
            if announcement.in_force.wait(WAITED_FOR):
                self.wfile.write(b"in force\n")

    SOCKET.unlink(missing_ok=True)  # of an agent that has ended
    with socketserver.ThreadingUnixStreamServer(str(SOCKET), Handler) as server:
        server.serve_forever()
