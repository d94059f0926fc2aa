"""The Docker engine's programs from the distribution's packages, unpacked but not installed.

Installing them would start a service, write firewall rules and put a second `docker` on PATH.
"""

import re
import tempfile
from pathlib import Path

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.debian import ensure_packages
from prefect_platform_cli.host.paths import cache_directory
from prefect_platform_cli.host.process import run

_PACKAGES = ("docker.io", "containerd", "runc", "tini")
_CLIENT = "docker-cli"  # a separate package since Debian 13, before that part of docker.io
_PROGRAMS = ("dockerd", "docker", "docker-init", "docker-proxy", "containerd", "runc")
# Libraries, and programs that dockerd runs. It uses iptables only inside containers.
_SYSTEM = (
    *("libdevmapper1.02.1", "libseccomp2", "libsystemd0"),
    *("iproute2", "iptables", "mount", "util-linux"),
)
_OFFLINE = "check that the distribution's package archive is reachable, then run the command again"
_OWN_ENGINE = "install Docker Engine yourself, then run the command again with ENGINE=existing"


def ensure_engine_programs() -> Path:
    """Return the folder of the unpacked engine, downloading what is missing.

    Raises PlatformError when the packages cannot be downloaded or do not run on this machine.
    """
    ensure_packages(*_SYSTEM)
    packages = _packages()
    root = cache_directory() / "engine" / "-".join(packages)
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with (
            step("Download the Docker engine"),
            tempfile.TemporaryDirectory(dir=root.parent, prefix=".downloading-") as folder,
        ):
            _unpack(Path(folder), [package.partition("_")[0] for package in packages]).rename(root)
    return root


def program(root: Path, name: str) -> Path:
    """Return the path of one of the engine's programs below `root`."""
    for folder in search_path(root):
        if (folder / name).exists():
            return folder / name
    raise PlatformError(
        f"the distribution's Docker packages in {root} do not contain {name}", next_step=_OWN_ENGINE
    )


def search_path(root: Path) -> list[Path]:
    """Return the folders of the engine's programs, the Docker client's first."""
    return [root / "usr" / "bin", root / "usr" / "sbin", root / "usr" / "libexec" / "docker"]


def _packages() -> list[str]:
    """Return NAME_VERSION of each package, with the current version of the package archive."""
    try:
        listed = _uris()
    except PlatformError:
        # A fresh machine has no package lists yet.
        run(["apt-get", "update"], failure="package lists cannot be downloaded", next_step=_OFFLINE)
        listed = _uris()
    return sorted(re.findall(r"^'[^']+' ([^_\s]+_[^_\s]+)_", listed, re.MULTILINE))


def _uris() -> str:
    names = [*_PACKAGES]
    if run(
        ["apt-cache", "pkgnames", _CLIENT], failure="apt-cache failed", next_step=_OFFLINE
    ).split():
        names.append(_CLIENT)
    with tempfile.TemporaryDirectory() as empty:
        return run(
            ["apt-get", "download", "--print-uris", *names],
            failure="the distribution has no packages of the Docker engine",
            next_step=_OFFLINE,
            cwd=Path(empty),
        )


def _unpack(folder: Path, names: list[str]) -> Path:
    root = folder / "root"
    run(
        ["apt-get", "-o", "APT::Sandbox::User=root", "download", *names],
        failure="the Docker engine cannot be downloaded",
        next_step=_OFFLINE,
        cwd=folder,
    )
    for package in folder.glob("*.deb"):
        run(
            ["dpkg-deb", "-x", package, root],
            failure=f"{package.name} cannot be unpacked",
            next_step="check that the disk is not full, then run the command again",
        )
    for name in _PROGRAMS:
        installed = program(root, name)
        if name != "docker-proxy":  # the only program without --version
            run(
                [installed, "--version"],
                failure=f"the distribution's {name} does not run on this machine",
                next_step=_OWN_ENGINE,
            )
    return root
