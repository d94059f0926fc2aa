"""Have cyclonus, which is not ours, judge the NetworkPolicies of a cluster of our own node image.

`python -m bench.cyclonus` needs such a cluster, named by CLUSTER_NAME. It makes the namespaces x, y
and z, tries every pair of their nine pods for each case, and takes hours; what stands behind `--`
is handed to `cyclonus generate`, such as `--include=port` for some of the cases.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from prefect_platform.cluster.image_archive import ImageConfig, write_archive, write_layer
from prefect_platform.cluster.kind import KindProvider
from prefect_platform.kubectl import Kubectl
from prefect_platform.toolchain import tool

_REGISTRY = "prefect-platform.local"
_AGNHOST = (
    f"{_REGISTRY}/e2e-test-images/agnhost:2.43"  # the name and version that cyclonus asks for
)
_NAMESPACES = ("x", "y", "z")


def main() -> None:
    """Run cyclonus, and end with its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arguments", nargs="*", help="for cyclonus generate")
    arguments = parser.parse_args().arguments
    provider = KindProvider(os.environ.get("CLUSTER_NAME", "prefect-platform"))
    with tempfile.TemporaryDirectory() as folder:
        provider.load_images(_agnhost(Path(folder)), [_AGNHOST])
    command = [
        *(tool("cyclonus"), "generate", f"--image-registry={_REGISTRY}", "--exclude="),
        "--server-protocol=TCP,UDP",  # SCTP needs a module that not every kernel has
        "--ignore-loopback",  # no policy keeps a pod from itself, but cyclonus expects it
        # What is dropped costs a try its whole time.
        *("--perturbation-wait-seconds=1", "--job-timeout-seconds=3", *arguments),
    ]
    environment = {**os.environ, "KUBECONFIG": str(provider.kubeconfig())}
    try:
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    finally:
        gone = ("delete", "namespace", "--ignore-not-found", *_NAMESPACES)
        Kubectl(provider.kubeconfig())(*gone)


def _agnhost(folder: Path) -> Path:
    """Write the image of the pods that cyclonus runs below `folder`."""
    write_layer(folder / "layer.tar", {"agnhost": tool("agnhost")})
    config = ImageConfig(entrypoint=["/agnhost"])
    write_archive(folder / "image.tar", _AGNHOST, [folder / "layer.tar"], config)
    return folder / "image.tar"


if __name__ == "__main__":
    main()
