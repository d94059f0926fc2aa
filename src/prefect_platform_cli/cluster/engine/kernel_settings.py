"""Record the kernel settings that a cluster's nodes change, and restore them afterwards.

Nodes are privileged containers, so what their kubelet and systemd set outside a network namespace
applies to the machine. All clusters of the machine share one record. It is written before the first
cluster starts, and the settings are restored after the last one has ended.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.engine import cgroups
from prefect_platform_cli.cluster.engine.records import write_atomically

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
# Written by a node's systemd, by itself or from the distribution's sysctl files.
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


@dataclass(frozen=True)
class _Record:
    """Values by setting, controllers by cgroup hierarchy, and the ID of the boot they belong to."""

    boot: str
    settings: dict[str, str]
    controllers: dict[str, list[str]]


def record(path: Path) -> None:
    """Record the settings in `path`, unless it already has a record of this boot."""
    if _recorded(path) is not None:
        return
    written = [name for name in (*_KUBELET, *_SYSTEMD) if _file(name).exists()]
    settings = {name: _file(name).read_text() for name in written}
    found = _Record(_BOOT.read_text(), settings, cgroups.enabled_controllers())
    write_atomically(path, json.dumps(asdict(found)))


def restore(path: Path) -> None:
    """Restore what differs from the record at `path`, if there is one, and remove the record."""
    before = _recorded(path)
    if before is not None:
        for name, value in before.settings.items():
            _put_back(name, value)
        for hierarchy, controllers in cgroups.enabled_controllers().items():
            added = set(controllers) - set(before.controllers.get(hierarchy, controllers))
            cgroups.disable_controllers(hierarchy, added)
    path.unlink(missing_ok=True)


def _put_back(name: str, value: str) -> None:
    if _file(name).read_text() == value:
        return
    try:
        _file(name).write_text(value)
    except OSError as error:
        raise PlatformError(
            f"the kernel setting {name} cannot be restored to {value.strip()}: {error}",
            next_step=f"sysctl -w {name}='{value.strip()}', then run the command again",
        ) from error


def _recorded(path: Path) -> _Record | None:
    """Return the record at `path`; None when a reboot has reset the settings since."""
    if not path.exists():
        return None
    found = _Record(**json.loads(path.read_text()))
    return found if found.boot == _BOOT.read_text() else None


def _file(name: str) -> Path:
    return _SYSCTL / name.replace(".", "/")
