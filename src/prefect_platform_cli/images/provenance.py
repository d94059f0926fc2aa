"""The origin of an image, for its labels: version, commit, time and repository."""

import datetime as dt
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY

_UNKNOWN = "unknown"


def build_arguments(inputs: Sequence[Path], repository: Path = REPOSITORY) -> dict[str, str]:
    """Return VERSION, REVISION, CREATED and SOURCE for an image made of `inputs`.

    REVISION is the last commit that changed an input, so that an image does not look newer than its
    content. CREATED is the time of that commit, or SOURCE_DATE_EPOCH if it is set.
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
        return git(repository, *arguments, *limits)
    except PlatformError:
        return ""  # there is no git, no repository or no commit, as in a source archive


def _source(remote: str) -> str:
    # Use only an address that others can open, without the credentials that it may contain.
    address = re.fullmatch(r"https://(?:[^/@]*@)?(.+)", remote)
    return f"https://{address[1]}" if address else _UNKNOWN
