"""Check NetworkPolicies in a cluster with our own node image, using the external tool cyclonus.

`python -m bench.cyclonus` needs such a cluster, named by CLUSTER_NAME. It creates the namespaces x,
y and z, tries every pair of their nine pods for each of 230 cases, and takes an hour. With tags of
cyclonus, such as `port`, it runs only the cases that have one of them. In a cluster with several
nodes, make sure that the pods can run on all of them: the taint of a control plane prevents that.
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
# The name of the image that cyclonus runs. It is loaded into the nodes and never pulled.
_IMAGE = "docker.io/mfenwick100/cyclonus-worker:latest"
_NAMESPACES = ("x", "y", "z")


def main() -> None:
    """Run cyclonus, and exit with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "tags", nargs="*", help="run only cases with one of these tags; default: all cases"
    )
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
            delete = ("delete", "namespace", "--ignore-not-found", *_NAMESPACES)
            Kubectl(provider.kubeconfig())(*delete)


def _pods_image(folder: Path) -> Path:
    """Build the image of the pods that cyclonus runs, in `folder`; return its archive."""
    worker, agnhost = folder / "worker", folder / "agnhost"
    compile_package(
        _SOURCES / "judge",
        f"{_CYCLONUS}/cmd/worker",
        worker,
        failure="the worker of cyclonus does not build",
    )
    compile_package(_SOURCES / "agnhost", ".", agnhost, failure="agnhost does not build")
    write_layer(folder / "layer.tar", {"worker": worker, "agnhost": agnhost})
    config = ImageConfig(entrypoint=["/worker"])
    write_archive(folder / "image.tar", _IMAGE, [folder / "layer.tar"], config)
    return folder / "image.tar"


if __name__ == "__main__":
    main()
