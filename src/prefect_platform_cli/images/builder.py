"""The interface of both image builders, and how the output of a build is logged."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.process import run, tail

# "STEP 3/9: RUN" of buildah, "Step 3/9 : RUN" of docker, "#7 [flows 2/5] RUN" of BuildKit.
_STEP = re.compile(r"^(?:\[\d+/\d+\] )?(?:STEP \d|Step \d|#\d+ \[).*$", re.MULTILINE)


@dataclass(frozen=True)
class Order:
    """Build `target` of the Dockerfile in `context` as `reference`, with its output in `log`.

    `installer` is a stage to keep in the builder's cache. `base_is_local` says that the base image
    is in no registry.
    """

    reference: str
    context: Path
    log: Path
    target: str | None = None
    installer: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    base_is_local: bool = False


class Builder(Protocol):
    """Builds images into a store and writes them to archives."""

    name: str

    def references(self) -> list[str]:
        """Return the references that the store holds."""
        ...

    def build(self, order: Order) -> None:
        """Build `order`; raises PlatformError with the failing step."""
        ...

    def export(self, references: Sequence[str], archive: Path) -> None:
        """Write the images to one file that containerd loads, each layer once."""
        ...

    def push(self, reference: str, to: str) -> str:
        """Push an image to a registry as `to`, and return the digest of what was pushed.

        Raises PlatformError when the registry refuses.
        """
        ...

    def pack_files(self, reference: str, patterns: Sequence[str], archive: Path) -> None:
        """Write at least the files of an image that match `patterns` to a tar file."""
        ...

    def user(self, reference: str) -> str:
        """Return the user of an image, as its Dockerfile writes it."""
        ...

    def run_hardened(
        self, reference: str, command: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in an image as in a hardened pod, without a network."""
        ...

    def save_layers(self, reference: str, archive: Path) -> None:
        """Write an image in the format of `docker save`, with layers that tarfile can read."""
        ...

    def discard(self, references: Sequence[str]) -> None:
        """Remove images from the store, with the layers that only they use."""
        ...


def run_push(argv: Sequence[str | Path], to: str, env: Mapping[str, str]) -> str:
    """Run a push to the reference `to`, and return what it prints.

    Raises PlatformError with the registry's answer.
    """
    return run(
        argv,
        failure=f"{to} cannot be pushed",
        next_step=f"check that your login to {to.partition('/')[0]} may push, then run the command "
        "again",
        env=env,
    )


def run_logged(argv: Sequence[str | Path], order: Order, env: Mapping[str, str]) -> None:
    """Run a build and write its output to the order's log.

    Raises PlatformError with the failing step, the last lines, and the path of the log.
    """
    order.log.parent.mkdir(parents=True, exist_ok=True)
    with order.log.open("w") as log:
        completed = subprocess.run(
            [str(argument) for argument in argv],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if completed.returncode != 0:
        printed = order.log.read_text(errors="replace")
        steps = _STEP.findall(printed)
        at = f" at {' '.join(steps[-1].split())[:120]}" if steps else ""
        raise PlatformError(
            f"the image {order.reference} does not build{at}: {tail(printed, 5)}",
            next_step=f"less {order.log}",
        )
