"""Show what happens to a burst of flow runs when the API is unavailable for a while.

`python -m bench.burst` needs a platform that `make deploy-cluster` created, and scales its API to
zero for a minute.
"""

import argparse
import os

from rich.console import Console

from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.burst import burst, take_api_away


def main() -> None:
    """Run the burst and print the outcome of its runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--away", type=float, default=60, metavar="SECONDS")
    arguments = parser.parse_args()
    cluster = os.environ.get("CLUSTER_NAME", "prefect-platform")
    kubectl = Kubectl(KindProvider(cluster).kubeconfig())
    Console().print(burst(kubectl, arguments.runs, lambda: take_api_away(kubectl, arguments.away)))


if __name__ == "__main__":
    main()
