"""Bring the code of the repository to the nodes, as a layer on the image that they have."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from prefect_platform.console import step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.image_store import ImageStore
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.images.catalogue import REGISTRY, recipes
from prefect_platform_cli.images.layered import (
    code_layer,
    has_code,
    reference_of,
    write_layered,
)

_EDITED = re.compile(rf"{re.escape(REGISTRY)}/flows:[0-9a-f]+-[0-9a-f]+")


def bring(stores: Sequence[ImageStore], deployed: str, repository: Path = REPOSITORY) -> str:
    """Return an image that all nodes have, with the code of the repository.

    It is `deployed`, the image that runs start from, if nothing was edited. Raises PlatformError
    when more than the code has changed since it was built.
    """
    if not deployed.startswith(f"{REGISTRY}/"):
        raise PlatformError(
            f"the runs of this cluster start from {deployed}, which comes from a registry",
            next_step=f"make deploy-cluster REGISTRY={deployed.rpartition('/')[0]}, which pushes "
            "the edited flows to it",
        )
    (recipe,) = recipes(["flows"])
    manifest, config = stores[0].describe(deployed)
    if has_code(config, recipe, repository):
        return deployed
    layer = code_layer(config, recipe, repository)
    edited = reference_of(deployed, layer)
    lacking = [store for store in stores if edited not in store.references()]
    if lacking:
        with step("Load the edited flows into the nodes"), TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            write_layered(archive, edited, layer, manifest=manifest, config=config)
            for store in lacking:
                store.load(archive)
    return edited


def discard_superseded(stores: Sequence[ImageStore], needed: Collection[str]) -> None:
    """Remove the images of earlier edits from all nodes, except for those that are `needed`."""
    for store in stores:
        store.remove(
            [held for held in store.references() if _EDITED.fullmatch(held) and held not in needed]
        )
