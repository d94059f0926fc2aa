"""An image of the platform with an older Prefect in it, to come from and to go back to."""

import subprocess
import sys
from pathlib import Path

from prefect_platform.cluster.kind import KindProvider
from prefect_platform.images.base import choose_base
from prefect_platform.images.build import alone
from prefect_platform.images.builder import Order
from prefect_platform.images.catalogue import REGISTRY
from prefect_platform.images.selection import choose_builder
from prefect_platform.paths import cache_directory
from tests.cluster.deployed import CLUSTER

VERSION = "3.8.5"
REVISION = "9e9dadc36797"
"""Of its database: two migrations before the one of the pinned Prefect."""
_DIGEST = "sha256:2f48380ada06c8d31f35bddebb0f3aea40b7a23151f9d281832540a7803faece"
_DOCKERFILE = """
ARG BASE
FROM ${BASE}
USER 0
COPY older /older
RUN packages="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \\
    && rm -r "$packages"/prefect "$packages"/prefect-3.*.dist-info \\
    && mv /older/* "$packages" \\
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages/prefect"
USER 1000:1000
"""


def load_older(platform: str, folder: Path) -> str:
    """Build the image from the one called `platform`, load it into the nodes, return its tag."""
    older = f"{REGISTRY}/platform:prefect-{VERSION}"
    requirements = folder / "requirements.txt"
    requirements.write_text(f"prefect=={VERSION} --hash={_DIGEST}\n")
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--no-deps"),
            *("--require-hashes", "--target", folder / "older", "--requirement", requirements),
        ],
        check=True,
    )
    images = cache_directory() / "images"
    order = Order(older, folder, folder / "log", arguments={"BASE": platform}, base_is_local=True)
    with alone(images):
        builder, _ = choose_builder(
            None, base=choose_base(None), docker_host=None, folder=images / "buildah"
        )
        builder.build(order)
        builder.export([older], folder / "archive.tar")
        builder.discard([older])
    KindProvider(CLUSTER).load_images(folder / "archive.tar", [older])
    return older.rpartition(":")[2]
