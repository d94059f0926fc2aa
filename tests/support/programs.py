"""Build the programs and images that tests need, so that no test's timeout includes a build."""

import sys

from prefect_platform_cli.cluster.node_image.node_image import node_image
from prefect_platform_cli.host.toolchain import ensure_tools
from tests.support.requirements import root_on_debian

FAST = ("helm", "kubeconform", "kubectl")
"""The programs that tests/unit and tests/render call."""
ALL = (
    *FAST,
    *("actionlint", "etcd", "external-secrets", "fake-gcs-server", "kind", "kube-apiserver"),
    *("oras", "registry", "terraform-docs", "tflint", "tofu"),
)
WHOLE = ("cosign",)
"""The programs that only long tests call, which build them: cosign takes longer than any other."""


def main() -> None:
    """Build the programs of `ALL` and the node image, or only the programs of `FAST`."""
    if sys.argv[1:] == ["fast"]:
        ensure_tools(FAST)
        return
    if root_on_debian():
        node_image()
    ensure_tools(ALL)


if __name__ == "__main__":
    main()
