"""An image of the platform with an older Prefect, for upgrades and downgrades."""

import subprocess
import sys
from pathlib import Path

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.host.paths import cache_directory
from prefect_platform_cli.images.base import choose_base
from prefect_platform_cli.images.build import alone
from prefect_platform_cli.images.builder import Order
from prefect_platform_cli.images.catalogue import REGISTRY
from prefect_platform_cli.images.selection import choose_builder
from tests.cluster.deployed import CLUSTER

VERSION = "3.8.8"
REVISION = "d4a7e1c93f52"
"""The revision of its database: two migrations before that of the pinned Prefect."""
DROPPED = {"automation_held_event"}
"""The tables that it does not have, so that a downgrade drops them."""
# With a newer SQLAlchemy, its scheduler creates no runs.
_REQUIREMENTS = f"""
prefect=={VERSION} \\
    --hash=sha256:1ed2f23d07ce5198d2bf9bee0d03262717eac2727e1fa0c9ccb6024722f01a3b
sqlalchemy==2.0.58 \\
    --hash=sha256:3be707b48a7aa68f987ed82b219dff32de67677402a0c05356a631ec0ed86e4d \\
    --hash=sha256:cc1b78ba0ed1f32156d1582f94ca4aca74633e4dcdde3eb1562dd4742493f594
"""
_DOCKERFILE = """
ARG BASE
FROM ${BASE}
USER 0
COPY older /older
RUN packages="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \\
    && rm -r "$packages"/prefect "$packages"/prefect-3.*.dist-info \\
        "$packages"/sqlalchemy "$packages"/sqlalchemy-2.*.dist-info \\
    && mv /older/* "$packages" \\
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash \\
        "$packages/prefect" "$packages/sqlalchemy"
USER 1000:1000
"""


def load_older(platform: str, folder: Path, cluster: str = CLUSTER) -> str:
    """Build the image from the image `platform`, load it into the nodes, and return its tag."""
    older = f"{REGISTRY}/platform:prefect-{VERSION}"
    requirements = folder / "requirements.txt"
    requirements.write_text(_REQUIREMENTS)
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
    KindProvider(cluster).load_images(folder / "archive.tar", [older])
    return older.rpartition(":")[2]
