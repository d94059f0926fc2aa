"""Inject random faults into a platform for an hour, and judge what happens to 500 flow runs.

`python -m bench.chaos` needs a platform that `make deploy-cluster` created, whose cluster
CLUSTER_NAME names. The faults are those of `make chaos` that the mode of the server and the number
of nodes allow, one after the other; the same seed draws the same faults. The runs are judged as by
`make chaos`. Each row of the table counts the runs that were wanted from its fault until the next
one.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from prefect_platform.console import out, step
from prefect_platform.errors import PlatformError
from prefect_platform_cli.cluster.kind import KindProvider
from tests.chaos.faults import possible
from tests.chaos.history import History
from tests.chaos.report import table
from tests.chaos.schedule import Injection
from tests.chaos.target import target
from tests.chaos.trial import run_schedule
from tests.chaos.validators import Verdict, judge, recovery


def main() -> int:
    """Run the schedule, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    where = target(os.environ.get("CLUSTER_NAME", "prefect-platform"))
    period = timedelta(minutes=arguments.minutes)
    with step(f"Run {arguments.runs} runs on the cluster {where.cluster}, with random faults"):
        history, injections = run_schedule(
            where, possible(where), arguments.runs, period, arguments.seed
        )
    of_all = judge(history)
    parts = list(_parts(history, injections))
    out.print(table([*parts, replace(of_all, fault="all", recovered=_longest(parts))]))
    if not of_all.violations:
        return 0
    out.print("\n".join(of_all.violations), markup=False)
    kept = KindProvider(where.cluster).kubeconfig().with_name("chaos-schedule.json")
    kept.write_text(history.json())
    out.print(f"The history is in {kept}")
    return 1


def _parts(history: History, injections: tuple[Injection, ...]) -> Iterator[Verdict]:
    """Yield the verdict on the runs from each fault until the next one."""
    begun, end = history.wanted[0].since, datetime.max.replace(tzinfo=UTC)
    first, last = Injection("no fault yet", begun), Injection("", end)
    for fault, following in pairwise((first, *injections, last)):
        since = int((fault.at - begun).total_seconds())
        of_fault = replace(history, fault=f"after {since} s: {fault.fault}", injected=fault.at)
        wanted = tuple(each for each in history.wanted if fault.at <= each.since < following.at)
        verdict = judge(replace(of_fault, wanted=wanted))
        # Recovery may take until after the next fault.
        yield replace(verdict, recovered=recovery(of_fault))


def _longest(verdicts: list[Verdict]) -> float | None:
    found = [each.recovered for each in verdicts if each.recovered is not None]
    return max(found) if len(found) == len(verdicts) else None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PlatformError as error:
        sys.exit(f"error: {error}")
