"""Kernel settings that a cluster's nodes write on the machine: recorded before, put back after.

Nodes are privileged containers, so what their kubelet and systemd set outside of a network
namespace is the machine's own. Clusters side by side share one record, written for the
first and put back after the last.
"""

import json
from pathlib import Path

from prefect_platform.cluster.records import write_atomically
from prefect_platform.errors import PlatformError

_SYSCTL = Path("/proc/sys")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_KUBELET = (
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.panic",
    "kernel.panic_on_oops",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
)
# systemd as the first process, and the files that distributions have it apply at start.
_SYSTEMD = (
    "fs.file-max",
    "fs.inotify.max_user_instances",
    "fs.inotify.max_user_watches",
    "fs.nr_open",
    "fs.protected_fifos",
    "fs.protected_hardlinks",
    "fs.protected_regular",
    "fs.protected_symlinks",
    "kernel.core_pattern",
    "kernel.core_pipe_limit",
    "kernel.core_uses_pid",
    "kernel.kptr_restrict",
    "kernel.pid_max",
    "kernel.printk",
    "kernel.sysrq",
    "vm.max_map_count",
)


def record(path: Path) -> None:
    """Write the settings to `path`, unless it already holds those of this boot."""
    if _recorded(path) is not None:
        return
    written = [name for name in (*_KUBELET, *_SYSTEMD) if _file(name).exists()]
    settings = {name: _file(name).read_text() for name in written}
    write_atomically(path, json.dumps({"boot": _BOOT.read_text(), "settings": settings}))


def restore(path: Path) -> None:
    """Put back what differs from the record at `path` and remove it; fine when there is none."""
    for name, value in (_recorded(path) or {}).items():
        if _file(name).read_text() == value:
            continue
        try:
            _file(name).write_text(value)
        except OSError as error:
            raise PlatformError(
                f"the kernel setting {name} cannot be put back to {value.strip()}: {error}",
                next_step=f"sysctl -w {name}='{value.strip()}', then run it again",
            ) from error
    path.unlink(missing_ok=True)


def _recorded(path: Path) -> dict[str, str] | None:
    """Return the settings at `path`, or None when they are of an earlier boot, which undid all."""
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    if document["boot"] != _BOOT.read_text():
        return None
    return {str(name): str(value) for name, value in document["settings"].items()}


def _file(name: str) -> Path:
    return _SYSCTL / name.replace(".", "/")
