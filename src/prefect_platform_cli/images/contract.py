"""Check an image with flows before a cluster or a registry gets it.

It passes if its user is a number other than root's, each deployment's flow can be imported in a
hardened pod without a network, the recorded facts about it are true, and no layer contains a
secret.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.process import tail
from prefect_platform_cli.host.withheld import with_withheld
from prefect_platform_cli.images.builder import Builder
from prefect_platform_cli.images.layers import leaks

_NUMBERED = re.compile(r"[1-9]\d*(:\d+)?")


def check(builder: Builder, reference: str, command: Sequence[str], folder: Path) -> None:
    """Raise PlatformError with everything that is wrong with the image `reference`.

    `command` is run in the image, and prints a line for each problem that it finds. Temporary files
    are in `folder`.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".checking-") as temporary:
        archive = Path(temporary) / "image.tar"
        builder.save_layers(reference, archive)
        wrong_user = list(_user(builder.user(reference)))
        found = leaks(archive, with_withheld())
        problems = [*(wrong_user or _printed(builder, reference, command)), *found]
    if problems:
        lines = "\n  ".join(dict.fromkeys(problems))
        raise PlatformError(
            f"the image {reference} is refused:\n  {lines}",
            next_step="correct the problems above, then run the command again",
        )


def _user(user: str) -> Iterator[str]:
    if not _NUMBERED.fullmatch(user):
        yield (
            f"its user is {user or 'root'}: Kubernetes can only verify that a user is not root if "
            "it is a number; write USER 1000:1000 in the Dockerfile"
        )


def _printed(builder: Builder, reference: str, command: Sequence[str]) -> list[str]:
    ended = builder.run_hardened(reference, command)
    if ended.returncode == 0:
        return []
    return ended.stdout.splitlines() or [tail(ended.stderr)]
