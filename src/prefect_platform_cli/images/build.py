"""Build the platform's images and put them into one archive that a cluster's nodes load."""

import datetime as dt
import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect_platform.console import err, step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.host.paths import REPOSITORY, cache_directory
from prefect_platform_cli.host.toolchain import ensure_tools
from prefect_platform_cli.images import contract, provenance
from prefect_platform_cli.images.base import Base, choose_base
from prefect_platform_cli.images.builder import Builder, Order
from prefect_platform_cli.images.catalogue import (
    REGISTRY,
    Recipe,
    fingerprints,
    recipes,
    reference,
)
from prefect_platform_cli.images.pip_settings import index_arguments
from prefect_platform_cli.images.sbom import FACTS, read_facts, sbom
from prefect_platform_cli.images.selection import choose_builder


@dataclass(frozen=True)
class Image:
    """A built image, its base, and its files.

    `archive` holds the image and the others of the same build, and `sbom` lists its packages.
    """

    name: str
    reference: str
    archive: Path
    base: Base
    sbom: Path


def build(
    names: Sequence[str],
    *,
    builder: str | None = None,
    engine_host: str | None = None,
    base: str | None = None,
) -> list[Image]:
    """Build those of the images `names` whose inputs have changed.

    `builder` is "docker" or "buildah" to force one, `base` the reference of a base image to force,
    and `engine_host` the address of a Docker engine. Raises PlatformError with the failing step
    when an image does not build. Images that are already built are kept.
    """
    wanted = recipes(names)
    folder = cache_directory() / "images"
    with alone(folder):
        chosen_base = choose_base(base)
        references = {recipe.name: reference(recipe, chosen_base.identity) for recipe in wanted}
        labels = [_label(built) for built in references.values()]
        archive = folder / "archives" / f"{'_'.join(labels)}.tar"
        if archive.exists():
            err.print(f"[green]✓[/] Images are unchanged: {', '.join(labels)}")
        else:
            chosen = build_missing(
                wanted, references, chosen_base, folder, builder=builder, engine_host=engine_host
            )
            _export(chosen, list(references.values()), archive)
            _discard_superseded(chosen, references, chosen_base, folder)
    return [
        Image(name, built, archive, chosen_base, sbom_file(folder, built))
        for name, built in references.items()
    ]


def build_missing(
    wanted: Sequence[Recipe],
    references: Mapping[str, str],
    base: Base,
    folder: Path,
    *,
    builder: str | None,
    engine_host: str | None,
) -> Builder:
    """Let a builder build those of the images that it lacks, check them, and return it.

    `folder` is that of the builds; the other arguments are those of `build`. Raises PlatformError.
    """
    err.print(f"Base image: {base.reference} ({base.reason})")
    chosen, reason = choose_builder(
        builder, base=base, docker_host=engine_host, folder=folder / "buildah"
    )
    err.print(f"Image builder: {chosen.name} ({reason})")
    _build(chosen, wanted, references, base, folder / "logs")
    _finish(chosen, wanted, references, base, folder)
    return chosen


def _build(
    builder: Builder,
    wanted: Sequence[Recipe],
    references: Mapping[str, str],
    base: Base,
    logs: Path,
) -> None:
    present = set(builder.references())
    if base.rootfs is not None and base.reference not in present:
        _import_base(builder, base, base.rootfs, logs)
    for recipe in wanted:
        built = references[recipe.name]
        if built in present:
            continue
        with _context(recipe, logs.parent) as context, step(f"Build {built}"):
            builder.build(
                Order(
                    reference=built,
                    context=context,
                    log=logs / f"{_label(built)}.log",
                    target=recipe.target,
                    installer=recipe.installer,
                    base_is_local=base.rootfs is not None,
                    arguments={
                        "BASE": base.reference,
                        **index_arguments(),
                        **provenance.build_arguments(recipe.paths(REPOSITORY)),
                        **fingerprints(recipe),
                    },
                    labels=base.labels(),
                )
            )
        if reference(recipe, base.identity) != built:
            builder.discard([built])
            raise PlatformError(
                f"the files of the image {recipe.name} changed while it was being built",
                next_step="run the command again",
            )


@contextmanager
def _context(recipe: Recipe, folder: Path) -> Iterator[Path]:
    """Yield the folder that an image is built from: a copy with the programs if it has any."""
    if not recipe.programs:
        yield REPOSITORY / recipe.context
        return
    programs = ensure_tools(recipe.programs).values()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as context:
        for path in (*recipe.paths(REPOSITORY), *programs):
            shutil.copy(path, context)
        yield Path(context)


def _import_base(builder: Builder, base: Base, rootfs: Path, logs: Path) -> None:
    with (
        step(f"Import {base.reference}"),
        tempfile.TemporaryDirectory(dir=rootfs.parent.parent, prefix=".importing-") as folder,
    ):
        context = Path(folder)
        (context / rootfs.name).hardlink_to(rootfs)
        (context / "Dockerfile").write_text(f"FROM scratch\nADD {rootfs.name} /\n")
        builder.build(Order(base.reference, context, logs / f"{_label(base.reference)}.log"))


def _finish(
    builder: Builder,
    wanted: Sequence[Recipe],
    references: Mapping[str, str],
    base: Base,
    folder: Path,
) -> None:
    """Check each image, and list its packages; an image with a list has passed its check."""
    for recipe in wanted:
        built = references[recipe.name]
        file = sbom_file(folder, built)
        if file.exists():
            continue
        file.parent.mkdir(exist_ok=True)
        if recipe.check:
            with step(f"Check {built}"):
                contract.check(builder, built, recipe.check, folder)
        created = provenance.build_arguments(recipe.paths(REPOSITORY))["CREATED"]
        with (
            step(f"List the packages of {built}"),
            tempfile.TemporaryDirectory(dir=folder, prefix=".listing-") as temporary,
        ):
            archive = Path(temporary) / "files.tar"
            builder.pack_files(built, FACTS, archive)
            text = sbom(built, base, dt.datetime.fromisoformat(created), read_facts(archive))
            (Path(temporary) / file.name).write_text(text)
            (Path(temporary) / file.name).rename(file)


def _export(builder: Builder, references: Sequence[str], archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_suffix(".part")
    with step("Export the images") as current:
        builder.export(references, temporary)
        temporary.rename(archive)
        current.detail = f"{archive.stat().st_size / 1e6:.0f} MB"


def _discard_superseded(
    builder: Builder, references: Mapping[str, str], base: Base, folder: Path
) -> None:
    """Remove earlier versions of the images from the builder's store, and their files."""
    current = {*references.values(), base.reference}
    names = {f"{REGISTRY}/{name}" for name in (*references, "base")}
    builder.discard(
        [
            held
            for held in builder.references()
            if held.rpartition(":")[0] in names and held not in current
        ]
    )
    labels = {_label(built) for built in current}
    for file in (folder / "sboms").iterdir():
        label = file.name.partition(".")[0]
        if label.rpartition("-")[0] in references and label not in labels:
            file.unlink()
    for archive in (folder / "archives").iterdir():
        ours = {held for held in archive.stem.split("_") if held.rpartition("-")[0] in references}
        if ours - labels or archive.suffix == ".part":
            archive.unlink()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a lock, so that only one process builds images at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("Wait for another build of the images"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sbom_file(folder: Path, image: str) -> Path:
    """Return the file with the list of an image's packages."""
    return folder / "sboms" / f"{_label(image)}.spdx.json"


def _label(image: str) -> str:
    """Return NAME-TAG for a reference."""
    return image.rpartition("/")[2].replace(":", "-")
