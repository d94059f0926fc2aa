"""Run a program of a buildah container as in a hardened pod, without an engine.

The program runs with chroot as the image's user, in the image's environment, on a root file system
that is read-only, with an empty and writable /tmp. All mounts disappear with its namespaces.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ALONE = ("unshare", "--mount", "--propagation", "private")


def hardened(
    buildah: Sequence[str | Path],
    container: str,
    config: Mapping[str, Any],
    command: Sequence[str],
    *,
    network: bool,
    volumes: Mapping[str, Path] | None = None,
    user: str | None = None,
) -> list[str]:
    """Return the command line that runs `command` in `container`.

    `buildah` is the command line of buildah without a subcommand, and `config` the configuration of
    the image. `command` may begin with NAME=VALUE. `user` replaces the user of the image. Without
    `network`, the program has no network interface.
    """
    binds = "\n".join(
        f'mount --bind {shlex.quote(str(source))} "$root{target}"'
        for target, source in (volumes or {}).items()
    )
    script = f"""
        set -e
        root=$({shlex.join(map(str, buildah))} mount "$0")
        mount --bind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        {binds}
        exec setpriv --no-new-privs \\
            chroot --userspec={user or config["User"]} --groups= "$root" \\
            env --ignore-environment --chdir={config.get("WorkingDir") or "/"} "$@"
    """
    namespaces = [*ALONE, "--pid", "--fork", *([] if network else ["--net"])]
    return [*namespaces, "sh", "-c", script, container, *config["Env"], *command]
