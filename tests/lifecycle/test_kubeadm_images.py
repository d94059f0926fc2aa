"""The node image contains every image that the pinned kubeadm requires."""

import pytest

from prefect_platform_cli.cluster.node_image import node_image
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import tool, version


@pytest.mark.usefixtures("machine")
def test_every_image_that_kubeadm_requires_is_in_the_node_image() -> None:
    listed = run(
        [
            *(tool("kubeadm"), "config", "images", "list"),
            *("--kubernetes-version", version("kubeadm")),
        ],
        failure="kubeadm cannot list its images",
        next_step="read its message",
    )
    assert set(listed.split()) <= {component.reference for component in node_image._COMPONENTS}
