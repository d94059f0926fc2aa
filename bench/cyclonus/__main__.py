"""Have cyclonus, which is not ours, judge the NetworkPolicies of a cluster of our own node image.

`python -m bench.cyclonus` needs such a cluster, named by CLUSTER_NAME. It makes the namespaces x, y
and z, tries every pair of their nine pods for each of 230 cases, and takes an hour; with tags of
cyclonus, such as `port`, it runs the cases that have one of them. On several nodes, make sure that
the pods may run on all: a control plane's taint keeps them away from it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.cluster.node_image.image_archive import (
    ImageConfig,
    write_archive,
    write_layer,
)
from prefect_platform_cli.host.toolchain import compile_package
from prefect_platform_cli.kube.kubectl import Kubectl

_SOURCES = Path(__file__).parent
_CYCLONUS = "github.com/mattfenwick/cyclonus"
# The name that cyclonus asks for; its own registry never sees it, the nodes have the image.
_IMAGE = "docker.io/mfenwick100/cyclonus-worker:latest"
_NAMESPACES = ("x", "y", "z")


def main() -> None:
    """Run cyclonus, and end with its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tags", nargs="*", help="of the cases to run; all without any")
    tags = parser.parse_args().tags
    provider = KindProvider(os.environ.get("CLUSTER_NAME", "prefect-platform"))
    environment = {**os.environ, "KUBECONFIG": str(provider.kubeconfig())}
    with tempfile.TemporaryDirectory() as folder:
        provider.load_images(_pods_image(Path(folder)), [_IMAGE])
        judge = Path(folder) / "judge"
        compile_package(_SOURCES / "judge", ".", judge, failure="the judge does not build")
        try:
            sys.exit(subprocess.run([judge, *tags], env=environment, check=False).returncode)
        finally:
            gone = ("delete", "namespace", "--ignore-not-found", *_NAMESPACES)
            Kubectl(provider.kubeconfig())(*gone)


def _pods_image(folder: Path) -> Path:
    """Write the image of the pods that cyclonus runs below `folder`."""
    worker, agnhost = folder / "worker", folder / "agnhost"
    compile_package(
        _SOURCES / "judge", f"{_CYCLONUS}/cmd/worker", worker, failure="its worker does not build"
    )
    compile_package(_SOURCES / "agnhost", ".", agnhost, failure="agnhost does not build")
    write_layer(folder / "layer.tar", {"worker": worker, "agnhost": agnhost})
    config = ImageConfig(entrypoint=["/worker"])
    write_archive(folder / "image.tar", _IMAGE, [folder / "layer.tar"], config)
    return folder / "image.tar"


if __name__ == "__main__":
    main()
