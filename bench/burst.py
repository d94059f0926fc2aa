"""What becomes of a burst of runs while the API is away in the middle of it.

`python -m bench.burst` needs the platform of `make deploy-cluster`, and takes the API of its
cluster away for a minute.
"""

import argparse
import os

from rich.console import Console

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.burst import burst, take_api_away


def main() -> None:
    """Run the burst and print what became of its runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--away", type=float, default=60, metavar="SECONDS")
    arguments = parser.parse_args()
    cluster = os.environ.get("CLUSTER_NAME", "prefect-platform")
    kubectl = Kubectl(KindProvider(cluster).kubeconfig())
    Console().print(burst(kubectl, arguments.runs, lambda: take_api_away(kubectl, arguments.away)))


if __name__ == "__main__":
    main()
