"""Compare bursts of flow runs with and without run identity.

`python -m bench.run_identity_burst` needs a platform that `make deploy-cluster` created, with its
CronJobs. It turns run identity off and on again with Helm, runs a burst with each setting in turn,
and leaves it on.
"""

import argparse
import os
import statistics
from collections import Counter

from prefect.client.orchestration import SyncPrefectClient
from rich.console import Console
from rich.table import Table

from prefect_platform.console import step
from prefect_platform.polling import wait_until
from prefect_platform_cli.cluster.kind import KindProvider
from prefect_platform_cli.deploy.connection import connected
from prefect_platform_cli.deploy.secrets import copy_secrets
from prefect_platform_cli.host.paths import REPOSITORY
from prefect_platform_cli.kube import names
from prefect_platform_cli.kube.kubectl import Kubectl
from tests.cluster.burst import create, has_ended, read
from tests.cluster.deployed import helm

_ORDER = (True, False, False, True)  # so that a machine that gets slower harms both alike
_WITHIN = 60.0  # seconds for each run
_RELEASES = {
    names.SERVER_RELEASE: names.SERVER_NAMESPACE,
    names.WORKER_RELEASE: names.WORKER_NAMESPACE,
}


def set_run_identity(kubectl: Kubectl, *, enabled: bool) -> None:
    """Upgrade both releases, and give workers and job pods the auth string if they need it."""
    copy_secrets(kubectl.api(), run_identity=enabled)
    for release, namespace in _RELEASES.items():
        chart = str(REPOSITORY / "helm" / release)
        value = f"--set=auth.runIdentity.enabled={str(enabled).lower()}"
        helm(kubectl, namespace, "upgrade", release, chart, "--reuse-values", value)


def drain(prefect: SyncPrefectClient, runs: int) -> tuple[float, Counter[str]]:
    """Return the seconds from the creation of the first run to the last end, and the states."""
    ids = create(prefect, runs)
    wait_until(lambda: all(map(has_ended, read(prefect, ids))), runs * _WITHIN, every=1)
    ended = read(prefect, ids)
    began = min(run.created for run in ended if run.created)
    end = max(run.end_time for run in ended if run.end_time)
    return (end - began).total_seconds(), Counter(str(run.state_name) for run in ended)


def main() -> None:
    """Run the bursts, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12)
    runs = parser.parse_args().runs
    cluster = os.environ.get("CLUSTER_NAME", "prefect-platform")
    kubectl = Kubectl(KindProvider(cluster).kubeconfig())
    seconds: dict[bool, list[float]] = {True: [], False: []}
    table = Table("job pods have", "runs", "states", "seconds", "a minute")
    for enabled in _ORDER:
        who = "a token" if enabled else "the auth string"
        with step(f"Give job pods {who}"):
            set_run_identity(kubectl, enabled=enabled)
        with connected(kubectl) as prefect, step(f"{runs} runs"):
            drain(prefect, 1)  # the first run of a new worker waits longer
            took, states = drain(prefect, runs)
        seconds[enabled].append(took)
        states_text = ", ".join(f"{name} {count}" for name, count in states.items())
        table.add_row(who, str(runs), states_text, f"{took:.1f}", f"{60 * runs / took:.2f}")
    ratio = statistics.mean(seconds[True]) / statistics.mean(seconds[False])
    table.caption = f"with a token, a burst takes {ratio:.2f} times as long"
    Console().print(table)


if __name__ == "__main__":
    main()
