"""The origin of an image, for its labels: version, commit, time and repository."""

import datetime as dt
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.host.process import run

_UNKNOWN = "unknown"


def build_arguments(inputs: Sequence[Path], repository: Path = REPOSITORY) -> dict[str, str]:
    """Return VERSION, REVISION, CREATED and SOURCE for an image made of `inputs`.

    The commit is the last one that changed an input, so that an image does not look newer than
    what is in it. SOURCE_DATE_EPOCH, where set, is the time.
    """
    with (repository / "src" / "pyproject.toml").open("rb") as project:
        version = tomllib.load(project)["project"]["version"]
    commit, _, committed = _git(repository, inputs, "log", "-1", "--format=%H %ct").partition(" ")
    modified = "-modified" if commit and _git(repository, inputs, "status", "--porcelain") else ""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or committed or "0"
    return {
        "VERSION": version,
        "REVISION": f"{commit or _UNKNOWN}{modified}",
        "CREATED": dt.datetime.fromtimestamp(int(epoch), dt.UTC).isoformat(),
        "SOURCE": _source(_git(repository, [], "remote", "get-url", "origin")),
    }


def _git(repository: Path, paths: Sequence[Path], *arguments: str) -> str:
    limits: list[str | Path] = ["--", *paths] if paths else []
    try:
        return run(
            ["git", "-C", repository, *arguments, *limits],
            failure="git does not know",
            next_step="git status",
        ).strip()
    except PlatformError:
        return ""  # no git, no repository or no commit, as in a source archive


def _source(remote: str) -> str:
    # Only an address that others can open, and without the credentials it may contain.
    address = re.fullmatch(r"https://(?:[^/@]*@)?(.+)", remote)
    return f"https://{address[1]}" if address else _UNKNOWN
