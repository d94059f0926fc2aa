"""Programs and images that the tests need, built before them: a test's bound is for the test."""

import sys

from prefect_platform_cli.cluster.node_image.node_image import node_image
from prefect_platform_cli.host.toolchain import ensure_tools
from tests.support.requirements import root_on_debian

FAST = ("helm", "kubeconform", "kubectl")
"""What tests/unit and tests/render call."""
ALL = (
    *FAST,
    *("etcd", "external-secrets", "fake-gcs-server", "kind", "kube-apiserver", "terraform-docs"),
    *("tflint", "tofu"),
)


def main() -> None:
    """Build the programs of `ALL`, or of `FAST` if that is asked for, and the node image."""
    if sys.argv[1:] == ["fast"]:
        ensure_tools(FAST)
        return
    if root_on_debian():
        node_image()
    ensure_tools(ALL)


if __name__ == "__main__":
    main()
