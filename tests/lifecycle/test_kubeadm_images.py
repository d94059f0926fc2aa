"""The node image carries what the pinned kubeadm asks for."""

import pytest

from prefect_platform_cli.cluster.node_image import node_image
from prefect_platform_cli.host.process import run
from prefect_platform_cli.host.toolchain import tool, version


@pytest.mark.usefixtures("machine")
def test_every_image_that_kubeadm_asks_for_is_in_the_node_image() -> None:
    listed = run(
        [
            *(tool("kubeadm"), "config", "images", "list"),
            *("--kubernetes-version", version("kubeadm")),
        ],
        failure="kubeadm does not list its images",
        next_step="read what it says",
    )
    assert set(listed.split()) <= {component.reference for component in node_image._COMPONENTS}
