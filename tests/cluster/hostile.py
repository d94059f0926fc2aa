"""A hostile flow and its neighbour. The tests deploy the source of this module."""

import ctypes
import errno
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from prefect import flow, get_client, runtime

_OWN_STATUS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
_NEW_USER_NAMESPACE = 0x10000000
_MIB = 2**20
_TMP = Path("/tmp")  # noqa: S108 - the only writable folder of a job pod


def _refusal(attempt: Callable[[], object]) -> str:
    """Return the name of the error that an attempt raises, or its result."""
    try:
        return f"got {attempt()}"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _unshare() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER_NAMESPACE) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return os.getuid()


def _reach(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=3):
        return "an answer"


def _gateway() -> str:
    """Return the address of the node, from the routes of the pod."""
    default = next(
        line.split()
        for line in Path("/proc/net/route").read_text().splitlines()
        if line.split()[1] == "00000000"
    )
    return socket.inet_ntoa(bytes.fromhex(default[2])[::-1])


def look_around() -> dict[str, object]:
    """Return the privileges of the process, what it sees, and how its attempts end."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    processes = [path for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return {
        "status": {key: status[key].strip() for key in _OWN_STATUS},
        "token": Path("/var/run/secrets/kubernetes.io").exists(),
        "setuid programs": [
            str(path)
            for folder in ("/bin", "/usr", "/opt", "/sbin")
            for path in Path(folder).rglob("*")
            if path.is_file() and not path.is_symlink() and path.stat().st_mode & stat.S_ISUID
        ],
        "setuid": _refusal(lambda: os.setuid(0)),
        "user namespace": _refusal(_unshare),
        "device": _refusal(lambda: os.mknod(_TMP / "disk", stat.S_IFBLK, os.makedev(8, 0))),
        "root": _refusal(lambda: Path("/opt/prefect/mine").write_text("mine")),
        "processes of others": len(processes) > 20,
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "block devices": [str(path) for path in Path("/dev").iterdir() if path.is_block_device()],
        "kubelet": _refusal(lambda: _reach(_gateway(), 10250)),
        # Hashes, because this is printed.
        "environment": {
            name: hashlib.sha256(value.encode()).hexdigest()
            for name, _, value in (
                each.partition("=") for each in Path("/proc/1/environ").read_text().split("\0")
            )
            if name
        },
    }


def fork() -> dict[str, object]:
    """Start processes until one is refused, keep them for a while, and kill them."""
    children: list[subprocess.Popen[bytes]] = []
    refused = ""
    while not refused and len(children) < 2000:  # protects the machine if there is no limit
        try:
            children.append(subprocess.Popen(["sleep", "300"]))
        except OSError as error:
            refused = errno.errorcode[error.errno or 0]
    time.sleep(10)
    for child in children:
        child.kill()
    return {"processes": len(children), "refused": refused}


def eat_memory() -> None:
    """Allocate memory until none is left."""
    eaten = []
    while True:
        eaten.append(b"x" * 64 * _MIB)


def fill_disk() -> None:
    """Fill the only writable folder, then wait for the eviction."""
    with (_TMP / "full").open("wb") as file:
        for _ in range(20):
            file.write(b"x" * 64 * _MIB)
            file.flush()
    time.sleep(240)


@flow
def hostile(attack: str) -> None:
    """Run one of the attacks."""
    sys.stdout.write(f"found {json.dumps(globals()[attack]())}\n")


@flow(log_prints=True)
def neighbour() -> None:
    """Count in the log until the run has the tag `stop`."""
    count = 0
    with get_client(sync_client=True) as client:
        while "stop" not in client.read_flow_run(runtime.flow_run.id).tags:
            count += 1
            print(count)  # noqa: T201 - what the test reads
            time.sleep(1)
