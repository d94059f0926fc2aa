"""Choose the image builder for this machine, and say why."""

import os
import shutil
import sys
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.images.base import Base
from prefect_platform_cli.images.buildah import Buildah
from prefect_platform_cli.images.builder import Builder
from prefect_platform_cli.images.docker import Docker
from prefect_platform_cli.images.pip_settings import certificate_authority

_BUILDERS = ("docker", "buildah")


def choose_builder(
    forced: str | None, *, base: Base, docker_host: str | None, folder: Path
) -> tuple[Builder, str]:
    """Return the builder, and the reason that the user is shown.

    `forced` is "docker" or "buildah"; `folder` is buildah's store. Unless forced, it is
    Docker where an engine answers that has every needed feature. Raises PlatformError when the
    forced builder, or neither builder, can be used.
    """
    if forced == "buildah":
        return Buildah(folder), "BUILDER=buildah"
    docker = Docker(docker_host)
    if forced == "docker":
        docker.version()
        return docker, "BUILDER=docker"
    if forced is not None:
        raise PlatformError(
            f"BUILDER={forced} is not known", next_step=f"use one of {', '.join(_BUILDERS)}"
        )
    try:
        answers = f"Docker {docker.version()} answers"
    except PlatformError as error:
        if not _buildah_is_possible():
            raise PlatformError(
                f"no builder of images can be used here: {error.message}",
                next_step="start a Docker engine, or run it as root on Debian or Ubuntu",
            ) from error
        return Buildah(folder), "no Docker engine answers"
    if _buildah_is_possible():
        if base.rootfs is not None:
            return Buildah(folder), "the base is made here, which needs no engine"
        if certificate_authority() is not None:
            return Buildah(folder), "Docker's builds cannot be lent this machine's authorities"
    return docker, answers


def _buildah_is_possible() -> bool:
    installable = shutil.which("buildah") or shutil.which("apt-get")
    return sys.platform == "linux" and os.geteuid() == 0 and installable is not None
