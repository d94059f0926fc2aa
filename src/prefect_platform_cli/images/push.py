"""Push the images to a registry, and record their digests for an environment.

An image is looked up by the tag of its content. If the registry has it, it keeps its digest, even
where a second build would give other bytes. A signer does not trust the tag, which others may have
written: an image without its signature is built and pushed again, and only what is built here is
signed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.git import git
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.base import choose_base
from prefect_platform_cli.images.build import alone, build_missing, sbom_file
from prefect_platform_cli.images.catalogue import Recipe, reference
from prefect_platform_cli.images.remote import Registry
from prefect_platform_cli.images.signature import Signer


@dataclass(frozen=True)
class Pushed:
    """An image in a registry; `is_new` if this push has brought it there."""

    name: str
    digest: str
    is_new: bool


def refuse_uncommitted(repository: Path = REPOSITORY) -> None:
    """Raise PlatformError when files differ from the last commit, except for images.yaml."""
    ours = ":(exclude)k8s/environments/*/images.yaml"
    changed = git(repository, "status", "--porcelain", "--", ".", ours).splitlines()
    if changed:
        raise PlatformError(
            f"{changed[0].split()[-1]} has changes that are not committed, so no commit would "
            "identify the content of the images",
            next_step="commit or stash them, or add UNCOMMITTED=accept",
        )


def push(
    wanted: Sequence[Recipe],
    registry: Registry,
    folder: Path,
    *,
    builder: str | None = None,
    engine_host: str | None = None,
    base: str | None = None,
    signer: Signer | None = None,
) -> list[Pushed]:
    """Build and push those of the images that `registry` lacks, with the lists of their packages.

    With `signer`, the images are signed, and the registry lacks each image that is not. `folder` is
    that of the builds; the other arguments are those of `build`. Raises PlatformError for a
    registry that does not answer before anything is built, and for the first image that fails. The
    next call continues from there.
    """
    with alone(folder):
        chosen_base = choose_base(base)
        references = {recipe.name: reference(recipe, chosen_base.identity) for recipe in wanted}
        tags = {name: built.rpartition(":")[2] for name, built in references.items()}
        found = {name: _find(registry, name, tag, signer) for name, tag in tags.items()}
        missing = [recipe for recipe in wanted if found[recipe.name] is None]
        if missing:
            chosen = build_missing(
                missing, references, chosen_base, folder, builder=builder, engine_host=engine_host
            )
        pushed = []
        for recipe in wanted:
            name = recipe.name
            digest = found[name]
            if digest is None:
                to = f"{registry.address}/{name}:{tags[name]}"
                with step(f"Push {to}"):
                    digest = chosen.push(references[name], to)
                    registry.attach(name, digest, sbom_file(folder, references[name]))
                if signer is not None:
                    signer.sign(registry, name, tags[name], digest)
            pushed.append(Pushed(name, digest, is_new=found[name] is None))
    return pushed


def _find(registry: Registry, name: str, tag: str, signer: Signer | None) -> str | None:
    digest = registry.find(name, tag)
    if (
        digest is not None
        and signer is not None
        and not signer.has_signed(registry, name, tag, digest)
    ):
        return None
    return digest
