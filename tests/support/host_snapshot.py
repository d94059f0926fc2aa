"""Snapshots of everything that a cluster could leave behind on a machine, to compare them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from prefect_platform_cli.cluster.engine import cgroups
from prefect_platform_cli.cluster.engine.private import PrivateEngine
from prefect_platform_cli.host.process import run

_SYSCTL = Path("/proc/sys")
# Settings that the kernel itself changes at any time.
_VOLATILE = (
    "dev/cdrom/info",
    "fs/binfmt_misc",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/quota",
    "kernel/ns_last_pid",
    "kernel/pty/nr",
    "kernel/random",
    "net/ipv4/tcp_fastopen_key",
    "net/netfilter/nf_conntrack_count",
)
# Folders in which container programs are known to create files.
_FOLDERS = (
    *("/", "/etc", "/etc/cni", "/opt", "/root", "/var/lib", "/var/lib/prefect-platform"),
    *("/run", "/run/containerd", "/run/containerd/s", "/run/docker", "/run/netns", "/var/log"),
)
_FIREWALLS = (["nft", "list", "ruleset"], ["iptables-legacy-save"], ["ip6tables-legacy-save"])


def take(engine: PrivateEngine, *folders: Path) -> frozenset[str]:
    """Return one line for everything on the machine that `engine` and its cluster could leave.

    Only the engine's own processes are included. Mounts, links, addresses, routes, firewall rules,
    kernel settings, control groups and the names in well-known folders are those of the whole
    machine, except what other container tools create and remove in the meantime. `folders` are
    listed recursively.
    """
    foreign = _ports_of_other_bridges(engine.bridge)
    return frozenset(
        [
            *(f"process {pid} {_command(pid)}" for pid in engine.processes()),
            *(f"mount {line}" for line in _mounts()),
            *_network(foreign),
            *_firewall(),
            *(f"kernel setting {line}" for line in _kernel_settings(foreign)),
            *(f"control group {line}" for line in _groups()),
            *(f"file {path}" for path in _files(folders)),
        ]
    )


def difference(before: frozenset[str], after: frozenset[str]) -> list[str]:
    """Return the lines that have disappeared, marked with -, and the new ones, marked with +."""
    return [
        *(f"- {line}" for line in sorted(before - after)),
        *(f"+ {line}" for line in sorted(after - before)),
    ]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "that just ended"


def _mounts() -> Iterator[str]:
    """Yield the mount points, except those that image builders often mount and unmount."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        point, file_system = fields[4], fields[fields.index("-") + 1]
        ours = point.startswith("/var/lib/prefect-platform")
        if ours or not ("overlay" in Path(point).parts or point.startswith(gettempdir())):
            yield f"{point} {file_system}"


def _ports_of_other_bridges(bridge: str) -> set[str]:
    """Return the links on other bridges, which appear and disappear with their containers."""
    masters = {link.name: (link / "master").resolve() for link in Path("/sys/class/net").iterdir()}
    return {name for name, path in masters.items() if path.name not in ("master", bridge)}


def _network(foreign: set[str]) -> Iterator[str]:
    for address in _ip("address", "show"):
        if address["ifname"] in foreign:
            continue
        yield f"link {address['ifname']}"
        for each in address["addr_info"]:
            yield f"address {each['local']} of {address['ifname']}"
    for family in ("-4", "-6"):
        for route in _ip(family, "route", "show", "table", "all"):
            if route.get("dev") not in foreign:
                yield f"route {route.get('type', '')} {route['dst']} dev {route.get('dev', '')}"
        for rule in _ip(family, "rule", "show"):
            yield f"routing rule {family} {json.dumps(rule, sort_keys=True)}"


def _ip(*arguments: str) -> list[dict[str, Any]]:
    printed = run(
        ["ip", "-json", *arguments], failure="the network cannot be read", next_step="ip link"
    )
    return [dict(each) for each in json.loads(printed or "[]")]


def _firewall() -> Iterator[str]:
    for command in _FIREWALLS:
        if shutil.which(command[0]):
            rules = run(command, failure="the firewall cannot be read", next_step=" ".join(command))
            for line in rules.splitlines():
                if not line.startswith("#"):
                    yield f"{command[0]} {line.strip()}"


def _kernel_settings(foreign: set[str]) -> Iterator[str]:
    for path in sorted(path for path in _SYSCTL.rglob("*") if path.is_file()):
        name = str(path.relative_to(_SYSCTL))
        if name.startswith(_VOLATILE) or not foreign.isdisjoint(path.parts):
            continue
        try:
            yield f"{name} = {path.read_text().strip()}"
        except OSError:  # some settings are write-only
            continue


def _groups() -> Iterator[str]:
    for hierarchy, controllers in cgroups.enabled_controllers().items():
        yield f"{hierarchy} hands down {sorted(controllers)}"
    for mount in cgroups.hierarchies():
        for folder in (mount, mount / "prefect-platform"):
            if folder.exists():
                yield from (str(path) for path in folder.iterdir() if path.is_dir())


def _files(folders: tuple[Path, ...]) -> Iterator[str]:
    for folder in map(Path, _FOLDERS):
        if folder.exists():
            yield from (str(path) for path in folder.iterdir())
    for folder in folders:
        yield from (str(path) for path in folder.rglob("*"))
