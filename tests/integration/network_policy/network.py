"""A node with pods, and a machine outside: network namespaces, linked as by the CNI plugin ptp."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from network_policy.model import Cluster, owners, pod, policy
from network_policy.ruleset import ruleset

NODE = "node"
OUTSIDE = "outside"
PORTS = ("tcp/80", "tcp/81", "tcp/85", "udp/80", "udp/81")
_GATEWAY = "198.18.1.1"
_ADDRESSES = {NODE: "198.18.2.1", OUTSIDE: "198.18.2.2"}
# Runs in each namespace. It serves all ports and, on request, tries many addresses in parallel.
_RESIDENT = """
import itertools, json, socket, sys, threading
from concurrent.futures import ThreadPoolExecutor

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}

def serve(protocol, port):
    server = socket.socket(socket.AF_INET, KINDS[protocol])
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((sys.argv[1], port))
    if protocol == "tcp":
        server.listen(64)
    threading.Thread(target=answer, args=(protocol, server), daemon=True).start()

def answer(protocol, server):
    while True:
        if protocol == "tcp":
            peer, _ = server.accept()
            threading.Thread(target=echo, args=(peer,), daemon=True).start()
        else:
            data, address = server.recvfrom(64)
            sources.add(address[0])
            server.sendto(data, address)

def echo(peer):
    while data := peer.recv(64):
        peer.sendall(data)

# Below the ports that the kernel chooses. Datagrams from a port that was used under an earlier
# policy belong, for the kernel, to a connection that is still open.
unused = itertools.count(10000)

def reach(address, protocol, port):
    client = socket.socket(socket.AF_INET, KINDS[protocol])
    client.settimeout(0.7)
    client.bind(("", next(unused)))
    try:
        client.connect((address, port))
        client.send(b"?")
        return client.recv(64) == b"?"
    except OSError:
        return False

sources = set()
def heard(address):
    found = address in sources
    sources.clear()
    return found

held = []
def hold(address, port):
    held.append(socket.create_connection((address, port), timeout=0.7))
    return True

def use_held():
    held[-1].sendall(b"?")
    return held[-1].recv(64) == b"?"

for port in json.loads(sys.argv[2]):
    protocol, _, number = port.partition("/")
    serve(protocol, int(number))
print("ready", flush=True)
with ThreadPoolExecutor(32) as pool:
    for line in sys.stdin:
        calls = [pool.submit(globals()[name], *arguments) for name, *arguments in json.loads(line)]
        print(json.dumps([call.result() for call in calls]), flush=True)
"""


@dataclass
class _Place:
    """A network namespace with its resident process."""

    namespace: str
    address: str
    resident: "subprocess.Popen[str]"

    def ask(self, calls: list[list[Any]]) -> list[bool]:
        """Let the resident process run `calls` in parallel; return their results."""
        assert self.resident.stdin is not None
        assert self.resident.stdout is not None
        self.resident.stdin.write(json.dumps(calls) + "\n")
        self.resident.stdin.flush()
        return [bool(each) for each in json.loads(self.resident.stdout.readline())]


@dataclass
class Network:
    """All places by name, and the pods and namespaces as the Kubernetes API would return them."""

    prefix: str
    places: dict[str, _Place] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)

    def address(self, name: str) -> str:
        """Return the address of a place."""
        return self.places[name].address

    def enforce(self, *policies: dict[str, Any], unknown: Iterable[str] = ()) -> None:
        """Enforce `policies`, as an agent does that does not know the pods `unknown` yet."""
        known = [pod(item) for name, item in self.pods.items() if name not in set(unknown)]
        cluster = Cluster(
            pods=owners([each for each in known if each], {}),
            namespaces=self.namespaces,
            policies=[policy(item) for item in policies],
        )
        self.nft(ruleset(cluster, NODE))

    def nft(self, rules: str) -> None:
        """Run a transaction of nftables on the node."""
        _run("ip", "netns", "exec", self.places[NODE].namespace, "nft", "-f", "-", stdin=rules)

    def reaching(self, name: str) -> set[str]:
        """Return which places reach which ports of `name`: "client tcp/80" and so on."""
        sources = [each for each in self.places if each != name]
        with ThreadPoolExecutor() as at_once:
            found = at_once.map(lambda source: self._reached(source, [name])[name], sources)
            return {
                f"{source} {port}"
                for source, ports in zip(sources, found, strict=True)
                for port in ports
            }

    def reachable_from(self, name: str) -> set[str]:
        """Return which ports of other places `name` reaches: "server tcp/80" and so on."""
        found = self._reached(name, [each for each in self.places if each != name])
        return {f"{target} {port}" for target, ports in found.items() for port in ports}

    def reaches_itself(self, name: str) -> bool:
        """Return whether a place reaches all of its own ports at its own address."""
        return self._reached(name, [name])[name] == set(PORTS)

    def hold(self, source: str, target: str) -> None:
        """Open a connection from `source` to `target`, and keep it open."""
        assert self.places[source].ask([["hold", self.address(target), 80]]) == [True]

    def held_works(self, source: str) -> bool:
        """Return whether the connection that `source` keeps open still carries data both ways."""
        return self.places[source].ask([["use_held"]]) == [True]

    def heard(self, name: str, source: str) -> bool:
        """Return whether `name` received a datagram from `source`'s address since the last call."""
        return self.places[name].ask([["heard", self.address(source)]]) == [True]

    def _reached(self, source: str, targets: list[str]) -> dict[str, set[str]]:
        tries = [(target, port) for target in targets for port in PORTS]
        calls = [["reach", self.address(target), *_parts(port)] for target, port in tries]
        found: dict[str, set[str]] = {target: set() for target in targets}
        for (target, port), reached in zip(tries, self.places[source].ask(calls), strict=True):
            if reached:
                found[target].add(port)
        return found


@contextmanager
def network(pods: list[dict[str, Any]], namespaces: dict[str, dict[str, str]]) -> Iterator[Network]:
    """Create the node, the machine outside, and one namespace for each of `pods`."""
    made = Network(f"np{os.getpid()}-", namespaces=namespaces)
    with ExitStack() as stack:
        for name in (NODE, OUTSIDE):
            _namespace(stack, made.prefix + name)
        node, outside = made.prefix + NODE, made.prefix + OUTSIDE
        ip(node, "link add eth0 type veth peer name eth0 netns " + outside)
        for name in (NODE, OUTSIDE):
            ip(made.prefix + name, f"address add {_ADDRESSES[name]}/24 dev eth0")
            ip(made.prefix + name, "link set eth0 up")
        ip(outside, f"route add 198.18.1.0/24 via {_ADDRESSES[NODE]}")
        _run("ip", "netns", "exec", node, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        addresses = dict(_ADDRESSES)
        for item in pods:
            name, address = item["metadata"]["name"], item["status"]["podIPs"][0]["ip"]
            made.pods[name], addresses[name] = item, address
            _link_pod(stack, node, made.prefix + name, f"veth{name}", address)
        for name, address in addresses.items():
            resident = stack.enter_context(_resident(made.prefix + name, address))
            made.places[name] = _Place(made.prefix + name, address, resident)
        yield made


def _link_pod(stack: ExitStack, node: str, namespace: str, link: str, address: str) -> None:
    _namespace(stack, namespace)
    ip(node, f"link add {link} type veth peer name eth0 netns {namespace}")
    ip(node, f"address add {_GATEWAY}/32 dev {link}")
    ip(node, f"link set {link} up")
    ip(node, f"route add {address}/32 dev {link}")
    ip(namespace, f"address add {address}/32 dev eth0")
    ip(namespace, "link set eth0 up")
    ip(namespace, f"route add {_GATEWAY} dev eth0 scope link")
    ip(namespace, f"route add default via {_GATEWAY}")


def _namespace(stack: ExitStack, name: str) -> None:
    _run("ip", "netns", "add", name)
    stack.callback(_run, "ip", "netns", "delete", name)
    ip(name, "link set lo up")


@contextmanager
def _resident(namespace: str, address: str) -> Iterator["subprocess.Popen[str]"]:
    python = [sys.executable, "-c", _RESIDENT, address, json.dumps(PORTS)]
    with subprocess.Popen(
        ["ip", "netns", "exec", namespace, *python],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as resident:
        assert resident.stdout is not None
        assert resident.stdout.readline() == "ready\n"
        yield resident
        resident.kill()


def ip(namespace: str, command: str) -> None:
    """Run an `ip` command in a network namespace."""
    _run("ip", "-netns", namespace, *command.split())


def _run(*command: str, stdin: str | None = None) -> None:
    ended = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr}"


def _parts(port: str) -> tuple[str, int]:
    protocol, _, number = port.partition("/")
    return protocol, int(number)
