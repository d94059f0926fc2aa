"""Ask git about a repository, and let it commit a file."""

import os
from collections.abc import Mapping
from pathlib import Path

from prefect_platform_cli.host.process import run


def git(
    repository: Path, *arguments: str | Path, variables: Mapping[str, str] | None = None
) -> str:
    """Return what `git ARGUMENTS` prints in `repository`; raises PlatformError when it fails.

    `variables` are added to the environment.
    """
    return run(
        ["git", "-C", repository, *arguments],
        failure=f"git {arguments[0]} failed",
        next_step="git status",
        env={**os.environ, **(variables or {})},
    ).strip()
