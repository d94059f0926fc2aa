"""The base of the images: a registry's Python image, or a Debian that is built here."""

import datetime as dt
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.console import step
from prefect_platform_cli.host.debian import ensure_packages
from prefect_platform_cli.host.paths import cache_directory
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.registry import DOCKER_HUB, why_unreachable
from prefect_platform_cli.images.pinned_base import pinned_base

LOCAL = "prefect-platform.local/base"
"""The repository of the bases that are built here."""
_ANNOTATION = "org.opencontainers.image.base"
_PACKAGES = ("python3", "python3-venv", "ca-certificates")
# Later file times are set to this one, so that the same packages always give the same archive.
_NEWEST_TIME = "1767225600"  # 2026-01-01
_UNUSED = ("doc/*", "info/*", "locale/*", "man/*")
_MMDEBSTRAP = (
    "mmdebstrap",
    "--mode=root",
    "--variant=apt",
    # Start with a merged /usr: the package that merges it later needs all of Perl.
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    f"--include={','.join(('usr-is-merged', *_PACKAGES))}",
    *(f"--dpkgopt=path-exclude=/usr/share/{path}" for path in _UNUSED),
    # Compile to byte code that stays valid when the times of its sources change.
    '--customize-hook=chroot "$1" python3 -m compileall -q -f --invalidation-mode unchecked-hash '
    "/usr/lib/python3.11",
    # mmdebstrap copies these files from this machine to reach the network.
    '--customize-hook=rm "$1/etc/resolv.conf" "$1/etc/hostname"',
)


@dataclass(frozen=True)
class Base:
    """The base image of a Dockerfile, and the reason for it, which is shown to the user.

    `identity` changes with the content of the image. `rootfs` is the archive to import if the image
    is built here. `created` is None if it is not known.
    """

    reference: str
    identity: str
    reason: str
    rootfs: Path | None = None
    created: dt.datetime | None = None

    def labels(self) -> dict[str, str]:
        """Return the labels that name the base in an image; OCI has none for its creation."""
        name, _, digest = self.reference.partition("@")
        labels = {
            f"{_ANNOTATION}.name": name,
            f"{_ANNOTATION}.digest": digest,
            "prefect-platform/base-created": self.created.isoformat() if self.created else "",
        }
        return {key: value for key, value in labels.items() if value}


def choose_base(forced: str | None = None, *, registry: str = DOCKER_HUB) -> Base:
    """Return the base: the reference `forced`, the Dockerfile's own, or a Debian built here.

    If the registry does not answer, a Debian is built once and then kept. Raises PlatformError when
    it cannot be built.
    """
    if forced is not None:
        return Base(forced, forced, f"BASE={forced}")
    pinned = pinned_base()
    if reason := why_unreachable(registry):
        return _debian(reason)
    return Base(pinned.reference, pinned.reference, f"{registry} answers", created=pinned.created)


def _debian(reason: str) -> Base:
    recipe = hashlib.sha256("\0".join([*_MMDEBSTRAP, _NEWEST_TIME]).encode()).hexdigest()[:12]
    folder = cache_directory() / "bases" / recipe
    if not folder.exists():
        _build_debian(folder)
    content = (folder / "rootfs.sha256").read_text()
    rootfs = folder / "rootfs.tar"
    created = dt.datetime.fromtimestamp(int(rootfs.stat().st_mtime), dt.UTC)
    # Images carry the time as a label: without it in the identity, one tag could have two of them.
    identity = f"{content} {created.isoformat()}"
    return Base(f"{LOCAL}:{content[:12]}", identity, reason, rootfs, created)


def _build_debian(folder: Path) -> None:
    ensure_packages("mmdebstrap", "debian-archive-keyring")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        step("Build a Debian base image"),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as temporary,
    ):
        made = Path(temporary) / "made"
        made.mkdir()
        run(
            [*_MMDEBSTRAP, "bookworm", made / "rootfs.tar"],
            failure="the Debian base image cannot be built",
            next_step="check that Debian's package archive is reachable, then run the command "
            "again",
            env={
                **os.environ,
                "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
                "SOURCE_DATE_EPOCH": _NEWEST_TIME,
            },
        )
        with (made / "rootfs.tar").open("rb") as rootfs:
            digest = hashlib.file_digest(rootfs, "sha256").hexdigest()
        (made / "rootfs.sha256").write_text(digest)
        made.rename(folder)
