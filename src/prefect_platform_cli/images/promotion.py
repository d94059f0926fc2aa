"""Promote the images of one environment to another: the same digests, in a commit."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.catalogue import RECIPES, Recipe
from prefect_platform_cli.images.environment import Images, images_file, read, write
from prefect_platform_cli.images.remote import REVISION, AbsentError, Registry

# A label comes from the registry, and git would take one that starts with a hyphen for an option.
_REVISION = re.compile(r"[0-9a-f]{7,64}(-modified)?")


@dataclass(frozen=True)
class Promoted:
    """An image whose digest changes, and the commits of its files that come with it."""

    name: str
    commits: Sequence[str]


def promote(
    source: str,
    target: str,
    *,
    repository: Path = REPOSITORY,
    recipes: Sequence[Recipe] = RECIPES,
) -> list[Promoted] | None:
    """Copy the images of `source` to `target` and commit the file; return those that change.

    Returns None if the file stays as it is. Raises PlatformError, and changes nothing, if the index
    or one of the two files has changes that are not committed, or if the registry lacks one of the
    images.
    """
    files = [images_file(name, repository) for name in (source, target)]
    _refuse_changes(repository, files)
    images, before = map(read, files)
    if not images.digests:
        raise PlatformError(
            f"{files[0]} names no images",
            next_step=f"make push REGISTRY=HOST/PATH ENVIRONMENT={source}",
        )
    revisions = _revisions(images)
    changed = [name for name in images.digests if images.digests[name] != before.digests.get(name)]
    paths = {recipe.name: recipe.paths(repository) for recipe in recipes}
    promoted = [
        Promoted(
            name,
            list(
                _commits(
                    repository, _old_revision(before, name), revisions[name], paths.get(name, ())
                )
            ),
        )
        for name in changed
    ]
    if images == before:
        return None
    _commit(repository, files[1], images, f"Promote the images of {source} to {target}")
    return promoted


def _refuse_changes(repository: Path, files: Sequence[Path]) -> None:
    if staged := git(repository, "diff", "--cached", "--name-only").splitlines():
        raise PlatformError(
            f"the index has changes that are not committed, such as {staged[0]}",
            next_step="git commit, or git restore --staged .",
        )
    if changed := git(repository, "status", "--porcelain", "--", *files).splitlines():
        name = changed[0].split()[-1]
        raise PlatformError(
            f"{name} has changes that are not committed, so no environment has run its images",
            next_step=f"git commit {name}, or git restore {name}",
        )


def _revisions(images: Images) -> Mapping[str, str]:
    """Return the commit of each image; raises PlatformError if the registry lacks one."""
    return {name: _revision(images, name) for name in images.digests}


def _old_revision(images: Images, name: str) -> str:
    """Return the commit of an image, or empty text if the registry no longer has the image."""
    if name not in images.digests:
        return ""
    try:
        return _revision(images, name)
    except AbsentError:
        return ""


def _revision(images: Images, name: str) -> str:
    """Return the commit of an image, or empty text if its label is missing or no commit."""
    labels = Registry(images.registry).labels(name, images.digests[name])
    found = labels.get(REVISION, "")
    return found if _REVISION.fullmatch(found) else ""


def _commits(repository: Path, old: str, new: str, paths: Sequence[Path]) -> Iterator[str]:
    """Yield a line for each commit after `old` up to `new` that changed one of `paths`."""
    if not old or not new:
        yield f"up to {new or 'an unknown commit'}"
        return
    first, last = (revision.removesuffix("-modified") for revision in (old, new))
    try:
        listed = git(repository, "log", "--format=%h %s", f"{first}..{last}", "--", *paths)
    except PlatformError:
        listed = f"{first}..{last}, which are not in this clone: git fetch --unshallow"
    yield from listed.splitlines()
    if new != last:
        yield "changes that were not committed"


def _commit(repository: Path, file: Path, images: Images, message: str) -> None:
    text = file.read_text()
    write(file, images)
    try:
        git(repository, "commit", "--quiet", "--only", f"--message={message}", "--", file)
    except PlatformError:
        file.write_text(text)
        raise
