"""Choose clients: the programs on PATH if their version is supported, else our own builds.

A machine that has all of them builds none. The node image does not depend on this choice: it always
contains the pinned builds.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prefect_platform.console import err
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import cache_directory
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import ensure_tools, tool, version
from prefect_platform_cli.host.variables import refuse_other


@dataclass(frozen=True)
class _Range:
    """How a client prints its version, and which versions are supported."""

    arguments: tuple[str, ...]
    fits: Callable[[tuple[int, int], tuple[int, int]], bool]
    rule: str


_RANGES = {
    # A node image works with the kind release that it was made for.
    "kind": _Range(
        ("version",), lambda found, pinned: found == pinned, "a release of kind {0}.{1}"
    ),
    # https://kubernetes.io/releases/version-skew-policy/#kubectl
    "kubectl": _Range(
        ("version", "--client"),
        lambda found, pinned: found[0] == pinned[0] and abs(found[1] - pinned[1]) <= 1,
        "within one minor version of Kubernetes {0}.{1}",
    ),
    "helm": _Range(
        ("version", "--short"),
        lambda found, pinned: found[0] == pinned[0],
        "a release of Helm {0}, with which the charts are tested",
    ),
    # The next major version stores and verifies signatures in another format by default.
    "cosign": _Range(
        ("version",), lambda found, pinned: found[0] == pinned[0], "a release of cosign {0}"
    ),
}


@dataclass(frozen=True)
class ClientChoice:
    """The program on PATH or None for our own build, and the reason that is shown to the user."""

    path: Path | None
    reason: str


def program(name: str) -> Path:
    """Return the path of a client; build it if PATH has no supported version."""
    return choose_client(name, os.environ.get("CLIENTS")).path or tool(name)


def ensure_clients(names: Collection[str]) -> None:
    """Show which clients are used for `names` and why, and build those that are missing."""
    choices = {name: choose_client(name, os.environ.get("CLIENTS")) for name in names}
    for name, choice in choices.items():
        err.print(f"{name}: {choice.path or f'our own build of {version(name)}'} ({choice.reason})")
    ensure_tools([name for name, choice in choices.items() if choice.path is None])


def choose_client(name: str, forced: str | None = None) -> ClientChoice:
    """Return the client `name` on PATH when its version is supported, else our own build.

    `forced` is "path" or "build". Raises PlatformError when "path" is forced and PATH has no
    supported version.
    """
    refuse_other("CLIENTS", forced)
    if forced == "build":
        return ClientChoice(None, "CLIENTS=build")
    found = shutil.which(name)
    # The PATH that deploy prints contains our own builds. They do not count as the user's.
    if found is None or Path(found).is_relative_to(cache_directory()):
        choice = ClientChoice(None, f"{name} is not on PATH")
    else:
        choice = _judge(name, Path(found))
    if forced == "path" and choice.path is None:
        raise PlatformError(
            f"CLIENTS=path, but {choice.reason}",
            next_step=f"install {name} {version(name)}, or run the command again without CLIENTS",
        )
    return choice


@cache
def _judge(name: str, found: Path) -> ClientChoice:
    supported = _RANGES[name]
    try:
        printed = run(
            [found, *supported.arguments],
            failure=f"{found} does not print its version",
            next_step=f"repair {found}, or remove it from PATH",
            timeout=10,
        )
    except PlatformError as error:
        return ClientChoice(None, error.message)
    installed = re.search(r"v\d+\.\d+\.\d+", printed)
    if installed is None:
        return ClientChoice(None, f"{found} does not print its version")
    pinned = _release(version(name))
    rule = supported.rule.format(*pinned)
    if not supported.fits(_release(installed[0]), pinned):
        return ClientChoice(None, f"{found} is {installed[0]}, which is not {rule}")
    return ClientChoice(found, f"{installed[0]}, {rule}")


def _release(version: str) -> tuple[int, int]:
    """Return the major and the minor number of a version such as v1.36.3."""
    major, minor, *_ = version.removeprefix("v").split(".")
    return int(major), int(minor)
