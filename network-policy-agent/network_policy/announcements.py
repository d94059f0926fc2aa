"""The node's CNI plugin announces a new pod, and waits until the pod's policies are in force.

The plugin writes one line of JSON to a socket on the node and reads one line as the answer. Without
an announcement, the agent would learn the pod's address from the API, a second after the pod has
started.
"""

import json
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

SOCKET = Path("/run/network-policy/agent.sock")
WAITED_FOR = 5  # seconds, after which the pod starts anyway, but stays closed


@dataclass(frozen=True)
class Announcement:
    """The address that was assigned to a new pod."""

    uid: str
    address: IPv4Address
    in_force: threading.Event = field(default_factory=threading.Event)


def listen(receive: Callable[[Announcement], None]) -> None:
    """Pass each announcement to `receive`, and answer when its `in_force` is set; never returns."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            message = json.loads(self.rfile.readline())
            announcement = Announcement(message["uid"], IPv4Address(message["address"]))
            receive(announcement)
            if announcement.in_force.wait(WAITED_FOR):
                self.wfile.write(b"in force\n")

    SOCKET.unlink(missing_ok=True)  # left by a previous agent
    with socketserver.ThreadingUnixStreamServer(str(SOCKET), Handler) as server:
        server.serve_forever()
