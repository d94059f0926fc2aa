"""Install the Debian or Ubuntu packages that a step needs, without starting their services."""

import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.process import run

_POLICY = Path("/usr/sbin/policy-rc.d")  # packages ask this program before they start a service
_POLICY_TEXT = "#!/bin/sh\n# prefect-platform: while it installs packages\nexit 101\n"
_OFFLINE = "check with `apt-get update` that the archive is reachable, then run the command again"


def ensure_packages(*names: str) -> list[str]:
    """Install those of `names` that are missing and return them.

    Raises PlatformError, which names the packages, on another distribution, without root, or when
    apt cannot install them.
    """
    missing = _missing(names)
    if not missing:
        return []
    wanted = " ".join(missing)
    if not _is_debian():
        raise PlatformError(
            f"{wanted} cannot be installed: this machine runs neither Debian nor Ubuntu",
            next_step=f"install the programs of these Debian packages: {wanted}",
        )
    if os.geteuid() != 0:
        raise PlatformError(
            f"{wanted} cannot be installed: that needs root",
            next_step=f"sudo apt-get install --no-install-recommends {wanted}",
        )
    with _exclusive():
        if still_missing := _missing(names):
            with step(f"Install {' '.join(still_missing)}"), _services_stay_stopped():
                _install(still_missing)
    return missing


def _missing(names: tuple[str, ...]) -> list[str]:
    if shutil.which("dpkg-query") is None:
        return list(names)
    listed = run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n"],
        failure="the installed packages cannot be listed",
        next_step="dpkg --audit",
    )
    installed = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def _is_debian() -> bool:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return "debian" in [release.get("ID", ""), *release.get("ID_LIKE", "").split()]


def _install(names: list[str]) -> None:
    failure = f"{' '.join(names)} cannot be installed"
    arguments = ["install", "--no-install-recommends", *names]
    try:
        _apt_get(*arguments, failure=failure)
    except PlatformError:
        # Usually the package lists are missing or outdated. An error in an unrelated list does not
        # matter: the second attempt shows whether the packages can be installed.
        with suppress(PlatformError):
            _apt_get("update", failure="the package lists cannot be downloaded")
        _apt_get(*arguments, failure=failure)


def _apt_get(*arguments: str, failure: str) -> None:
    run(
        ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", *arguments],
        failure=failure,
        next_step=_OFFLINE,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )


@contextmanager
def _exclusive() -> Iterator[None]:
    """Lock out other installations: the first to end would let the others' services start."""
    folder = os.open(_POLICY.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def _services_stay_stopped() -> Iterator[None]:
    if _POLICY.exists() and _POLICY.read_text() != _POLICY_TEXT:
        yield  # the administrator's own rule stays in place
        return
    _POLICY.write_text(_POLICY_TEXT)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
