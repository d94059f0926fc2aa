"""Run one fault on a kind cluster under load, and print its verdict: `make chaos FAULT=name`."""

import sys

from prefect_platform.console import out, step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.kind import KindProvider
from tests.chaos.faults import FAULTS, chosen, require
from tests.chaos.report import table
from tests.chaos.target import target
from tests.chaos.trial import run_trial
from tests.chaos.validators import judge

_RUNS = 8


def main(cluster: str, named: str) -> int:
    """Run a trial with the faults `named`, or list all if it is empty; return the exit code."""
    if not named:
        out.print("\n".join(FAULTS))
        return 0
    faults = chosen(named)
    where = target(cluster or "prefect-platform")
    require(where, faults)
    with step(f"Run {_RUNS} runs on the cluster {where.cluster}, with the fault {named}"):
        history = run_trial(where, faults, _RUNS)
    verdict = judge(history)
    out.print(table([verdict]))
    if not verdict.violations:
        return 0
    out.print("\n".join(verdict.violations), markup=False)
    kept = KindProvider(where.cluster).kubeconfig().with_name(f"chaos-{named}.json")
    kept.write_text(history.json())
    out.print(f"The history of the trial is in {kept}")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except PlatformError as error:
        sys.exit(f"error: {error}")
