"""Choose the image builder for this machine, and say why."""

import os
import shutil
import sys
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.variables import refuse_other
from prefect_platform_cli.images.base import Base
from prefect_platform_cli.images.buildah import Buildah
from prefect_platform_cli.images.builder import Builder
from prefect_platform_cli.images.docker import Docker
from prefect_platform_cli.images.pip_settings import certificate_authority


def choose_builder(
    forced: str | None, *, base: Base, docker_host: str | None, folder: Path
) -> tuple[Builder, str]:
    """Return the builder, and the reason for it, which is shown to the user.

    `forced` is "docker" or "buildah"; `folder` is buildah's store. Unless forced, the builder is
    Docker if an engine answers that can build these images. Raises PlatformError when the forced
    builder, or neither of them, can be used.
    """
    refuse_other("BUILDER", forced)
    if forced == "buildah":
        return Buildah(folder), "BUILDER=buildah"
    docker = Docker(docker_host)
    if forced == "docker":
        docker.version()
        return docker, "BUILDER=docker"
    try:
        answers = f"Docker {docker.version()} answers"
    except PlatformError as error:
        if not _buildah_is_possible():
            raise PlatformError(
                f"no image builder can be used on this machine: {error.message}",
                next_step="start a Docker engine, or run the command as root on Debian or Ubuntu",
            ) from error
        return Buildah(folder), "no Docker engine answers"
    if _buildah_is_possible():
        if base.rootfs is not None:
            return Buildah(folder), "the base image is built on this machine, which needs no engine"
        if certificate_authority() is not None:
            return Buildah(folder), "Docker builds cannot use this machine's CA certificates"
    return docker, answers


def _buildah_is_possible() -> bool:
    installable = shutil.which("buildah") or shutil.which("apt-get")
    return sys.platform == "linux" and os.geteuid() == 0 and installable is not None
