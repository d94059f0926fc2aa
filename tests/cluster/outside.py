"""Servers outside of all pods and nodes, in place of the internet and a cloud's metadata."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.deployed import eventually, on_node

WORLD, METADATA = "198.19.255.2", "169.254.169.254"
_NODE = "198.19.255.1"
_LINK = "outside"  # not veth*, which are the links of pods


@contextmanager
def outside() -> Iterator[str]:
    """Serve WORLD at port 443 and METADATA at port 80, and yield the address and port of WORLD."""
    try:
        _shell(
            f"ip netns add {_LINK}",
            f"ip link add {_LINK} type veth peer name eth0 netns {_LINK}",
            f"ip address add {_NODE}/30 dev {_LINK}",
            f"ip link set {_LINK} up",
            f"ip -n {_LINK} address add {WORLD}/30 dev eth0",
            f"ip -n {_LINK} address add {METADATA}/32 dev eth0",
            f"ip -n {_LINK} link set eth0 up",
            f"ip -n {_LINK} route add default via {_NODE}",
            f"ip route add {METADATA}/32 via {WORLD}",
        )
        for address, port in ((WORLD, 443), (METADATA, 80)):
            listen = f"socat TCP-LISTEN:{port},bind={address},fork,reuseaddr PIPE"
            _shell(f"setsid ip netns exec {_LINK} {listen} </dev/null >/dev/null 2>&1 &")
        eventually(
            "both addresses listen",
            lambda: _shell(f"ip netns exec {_LINK} ss -Htln").count("LISTEN") == 2,
        )
        yield f"{WORLD}:443"
    finally:
        _shell(
            f"ip netns pids {_LINK} | xargs --no-run-if-empty kill",
            f"ip link delete {_LINK}",
            f"ip netns delete {_LINK}",
        )


def _shell(*commands: str) -> str:
    return on_node("sh", "-ec", "\n".join(commands))
