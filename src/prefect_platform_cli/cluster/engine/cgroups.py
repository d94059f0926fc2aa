"""The engine's own control groups, in every hierarchy that the machine has mounted."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_TYPES = ("cgroup", "cgroup2")


def hierarchies() -> list[Path]:
    """Return the mount points of all cgroup hierarchies, version 1 and 2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in _TYPES]


def enabled_controllers() -> dict[str, list[str]]:
    """Return the controllers that each version 2 hierarchy delegates, by its mount point."""
    files = {hierarchy: hierarchy / "cgroup.subtree_control" for hierarchy in hierarchies()}
    return {str(path): file.read_text().split() for path, file in files.items() if file.exists()}


def disable_controllers(hierarchy: str, controllers: Iterable[str]) -> None:
    """Stop delegating `controllers`, except those that another control group now uses."""
    for controller in controllers:
        with suppress(OSError):
            Path(hierarchy, "cgroup.subtree_control").write_text(f"-{controller}")


def remove(group: str) -> None:
    """Remove `group` and its descendants in every hierarchy; OSError when one has a process."""
    for folder in _folders(group):
        folder.rmdir()


def remove_if_empty(group: str) -> None:
    """Remove `group` in the hierarchies where it has neither processes nor child groups."""
    for hierarchy in hierarchies():
        with suppress(OSError):
            (hierarchy / group.strip("/")).rmdir()


def _folders(group: str) -> Iterator[Path]:
    """Yield the folders of `group` in all hierarchies, the deepest first."""
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / group.strip("/"), topdown=False):
            yield Path(folder)
