"""Ask git about a repository, and let it commit a file."""

from pathlib import Path

from prefect_platform_cli.host.process import run


def git(repository: Path, *arguments: str | Path) -> str:
    """Return what `git ARGUMENTS` prints in `repository`; raises PlatformError when it fails."""
    return run(
        ["git", "-C", repository, *arguments],
        failure=f"git {arguments[0]} failed",
        next_step="git status",
    ).strip()
