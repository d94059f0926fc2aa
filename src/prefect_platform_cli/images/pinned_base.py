"""The base image that the Dockerfile names: a tag, pinned to what it named at one time."""

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.registry import published

_DOCKERFILE = REPOSITORY / "Dockerfile"
# The comment names its digest: when only the line below it is changed, the time is not believed.
_LINES = re.compile(
    r"^(?:# (?P<of>sha256:[0-9a-f]{64}) was created at (?P<created>\S+)\n)?"
    r"ARG BASE=(?P<name>[^@\s]+)(?:@(?P<digest>sha256:[0-9a-f]{64}))?$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class PinnedBase:
    """The base `name` (HOST/REPOSITORY:TAG), its digest if pinned, and its creation if known."""

    name: str
    digest: str | None = None
    created: dt.datetime | None = None

    @property
    def reference(self) -> str:
        """The reference to build from."""
        return self.name if self.digest is None else f"{self.name}@{self.digest}"


def pinned_base(dockerfile: Path = _DOCKERFILE) -> PinnedBase:
    """Return the base that `dockerfile` names; raises PlatformError when it names none."""
    found = _find(dockerfile)
    created = found["created"] if found["of"] == found["digest"] else None
    return PinnedBase(
        found["name"], found["digest"], dt.datetime.fromisoformat(created) if created else None
    )


def pin_base(dockerfile: Path = _DOCKERFILE) -> tuple[PinnedBase, bool]:
    """Pin the base to what its tag names today; return it, and whether `dockerfile` changed.

    Raises PlatformError when `dockerfile` names no base, or its registry does not answer for it.
    """
    found = _find(dockerfile)
    today = published(found["name"])
    base = PinnedBase(found["name"], today.digest, today.created)
    text = dockerfile.read_text()
    lines = f"# {base.digest} was created at {today.created.isoformat()}\nARG BASE={base.reference}"
    pinned = text.replace(found[0], lines)
    if pinned != text:
        dockerfile.write_text(pinned)
    return base, pinned != text


def _find(dockerfile: Path) -> re.Match[str]:
    found = _LINES.search(dockerfile.read_text())
    if found is None:
        raise PlatformError(
            f"{dockerfile} names no base image, or one with an incomplete digest",
            next_step=f"add the line ARG BASE=HOST/REPOSITORY:TAG to {dockerfile}, then make base",
        )
    return found
